"""What a mutation of the protocol is, and how it is applied for a while."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from jobsite.database import Cursor

T = "jobsite.programs.transitions."
TESTS = "tests/programs/transitions/test_{}.py"


@dataclass(frozen=True)
class Mutation:
    """`where` is module:names; `changes` are (old, new). `held_by` says why it changes nothing; `tests` names the
    ordinary tests that notice what needs two connections at once, or a state that no move leads to. Of any other
    statement the tests of its module are asked when the model has not noticed.
    """

    name: str
    where: str
    changes: tuple[tuple[str, str], ...]
    held_by: str = ""
    tests: str = ""
    ddl: Callable[[Cursor], None] | None = field(default=None, compare=False)

    @property
    def ordinary_tests(self) -> str:
        """The file of tests that runs on it; "" where it damages the database itself."""
        module = self.where.partition(":")[0].rpartition(".")[2]
        return "" if self.ddl else self.tests or TESTS.format(module)


def m(name: str, where: str, *changes: str, held_by: str = "", tests: str = "") -> Mutation:
    """A mutation of statements: `changes` are old, new, old, new …; for transitions the module's name is enough."""
    pairs = tuple(zip(changes[::2], changes[1::2], strict=True))
    return Mutation(name, T + where if ":" in where and "." not in where else where, pairs, held_by, tests)


def replaced(texts: Sequence[str], changes: Sequence[tuple[str, str]]) -> list[str]:
    """The texts with every change made wherever its fragment occurs; LookupError where it occurs nowhere any more."""
    for old, new in changes:
        if not any(old in text for text in texts):
            raise LookupError(f"no longer in the source: {old}")
        texts = [text.replace(old, new) for text in texts]
    return list(texts)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return list(value.values())
    return [value if isinstance(value, str) else inspect.getsource(value)]


@contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """The statements of the mutation are changed inside. The World makes changes to the database itself."""
    module_name, _, names = mutation.where.partition(":")
    if not names:
        yield
        return
    module = importlib.import_module(module_name)
    before = {name: getattr(module, name) for name in names.split(",")}
    texts = iter(replaced([text for value in before.values() for text in _texts(value)], mutation.changes))
    try:
        for name, value in before.items():
            mutated = list(islice(texts, len(_texts(value))))
            if isinstance(value, dict):
                setattr(module, name, dict(zip(value, mutated, strict=True)))
            elif isinstance(value, str):
                setattr(module, name, mutated[0])
            else:
                exec(mutated[0], vars(module))  # defines it again
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
