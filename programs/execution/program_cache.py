"""What execution needs of programs and captured contexts, kept in the process so that a job costs no query for it."""

import json
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from jobsite.database import Cursor
from jobsite.programs.context import Step
from jobsite.programs.definitions import KINDS
from jobsite.programs.rules.retries import RetryPolicy

SIZE = 1_000


@dataclass(frozen=True)
class RunnableProgram:
    """What is needed to run a job of a program. Durations are in seconds."""

    code: str
    timeout: float
    retry: RetryPolicy
    retry_on_timeout: bool
    transient: tuple[str, ...]
    permanent: tuple[str, ...]
    cancel_grace: float
    steps: tuple[Step, ...]
    callback: Step | None = None

    @property
    def keeps_steps(self) -> bool:
        """Whether the results of its actions are stored: another action, or the callback, may ask for them."""
        return len(self.steps) > 1 or self.callback is not None


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """The last thousand values that were put in."""

    def __init__(self) -> None:
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value of this key, if it is kept."""
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> Value:
        """Keep a value; beyond a thousand the oldest goes."""
        self._values[key] = value
        while len(self._values) > SIZE:
            self._values.popitem(last=False)
        return value


# A key never gets another value: a program has a version, and a context's key is the digest of its content.
programs: Kept[tuple[int, int], RunnableProgram] = Kept()
contexts: Kept[UUID, dict[str, Any]] = Kept()


def read_context(cursor: Cursor, *, key: UUID) -> dict[str, Any]:
    """Read a captured context, and keep it."""
    cursor.execute("SELECT content FROM jobsite_capturedcontext WHERE key = %s", [key])
    return contexts.put(key, _loaded(cursor.fetchone()[0]))


def read_program(cursor: Cursor, *, program_id: int, version: int) -> RunnableProgram:
    """Read a program in the version that the claim saw, and keep it."""
    return programs.put((program_id, version), _read(cursor, program_id))


def _read(cursor: Cursor, program_id: int) -> RunnableProgram:
    cursor.execute(
        """
        SELECT code, timeout_seconds, max_attempts, initial_interval, coefficient, maximum_interval, jitter,
               retry_on_timeout, transient, permanent, cancel_grace_seconds
        FROM jobsite_program WHERE id = %s
        """,
        [program_id],
    )
    row = cursor.fetchone()
    cursor.execute(
        """
        SELECT position, name, kind, configuration, timeout_seconds, is_callback
        FROM jobsite_action WHERE program_id = %s ORDER BY position
        """,
        [program_id],
    )
    actions = [
        (
            is_callback,
            Step(name or f"{kind} {position}", kind, _loaded(configuration), timeout or _longest(kind, row[1])),
        )
        for position, name, kind, configuration, timeout, is_callback in cursor.fetchall()
    ]
    return RunnableProgram(
        code=row[0],
        timeout=row[1],
        retry=RetryPolicy(*row[2:7]),
        retry_on_timeout=row[7],
        transient=tuple(row[8]),
        permanent=tuple(row[9]),
        cancel_grace=row[10],
        steps=tuple(step for is_callback, step in actions if not is_callback),
        callback=next((step for is_callback, step in actions if is_callback), None),
    )


def _longest(kind: str, program: float) -> float:
    """The limit of an action without one of its own: the program's, but not more than its kind allows."""
    return min(program, KINDS[kind].maximum_timeout) if kind in KINDS else program


def _loaded(configuration: Any) -> dict[str, Any]:
    # psycopg gives jsonb as a dict, a cursor of Django's as text.
    return dict(json.loads(configuration) if isinstance(configuration, str) else configuration)
