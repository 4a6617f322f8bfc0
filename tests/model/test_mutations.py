"""No guard of the protocol is taken away unnoticed: the model or an ordinary test fails for each mutation."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import psycopg
import pytest
from hypothesis import Phase

from tests.model import mutated
from tests.model.driver import Broken
from tests.model.machine import Protocol, run
from tests.model.mutation import Mutation, applied
from tests.model.mutations import MUTATIONS
from tests.model.world import World

EXAMPLES = 500
EXAMPLES_WHERE_NOTHING_CHANGES = 40
IN_CI = (
    "reap before the lock expires",
    "renew without a message",
    "a loss is not counted",
    "the fast path overtakes",
    "the database without job_terminal_is_final",
    "the database without job_locked_only_while_running",
)


@dataclass(frozen=True)
class Caught:
    """What noticed a mutation, in which example."""

    by: str
    example: int | None = None


def caught_by_the_model(mutation: Mutation, *, examples: int) -> Caught | None:
    """Run the machine on the mutated protocol until it fails; None when it never does."""

    class Counted(Protocol):
        started: ClassVar[int] = 0
        failed: ClassVar[int] = 0

        def __init__(self) -> None:
            super().__init__()
            Counted.started += 1

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                if not self.driver.is_sound:  # the first that failed; Hypothesis repeats it
                    Counted.failed = Counted.failed or Counted.started

    with applied(mutation):
        world = World(mutation.ddl)
        try:
            run(
                Counted,
                world,
                max_examples=examples,
                stateful_step_count=40,
                derandomize=True,
                phases=[Phase.generate],
            )
        except Broken as broken:
            return Caught(broken.check, Counted.failed)
        except psycopg.Error as error:
            return Caught(f"database: {error.diag.constraint_name or type(error).__name__}", Counted.failed)
        finally:
            world.close()
    return None


def caught_by_ordinary_tests(mutation: Mutation) -> Caught | None:
    """Run the tests of the move on the mutated protocol until one fails; None when all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "tests.model.mutated", mutation.ordinary_tests]
    environment = os.environ | {mutated.VARIABLE: mutation.name}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    failed = re.search(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    assert failed or done.returncode == 0, done.stdout + done.stderr
    return Caught(failed[1]) if failed else None


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in IN_CI else pytest.mark.slow) for n in MUTATIONS])
def test_a_guard_that_is_taken_away_is_noticed(name, record_property):
    mutation = MUTATIONS[name]

    examples = EXAMPLES_WHERE_NOTHING_CHANGES if mutation.held_by else EXAMPLES
    caught = None if mutation.tests else caught_by_the_model(mutation, examples=examples)
    if caught is None and not mutation.held_by and mutation.ordinary_tests:
        caught = caught_by_ordinary_tests(mutation)

    record_property("mutation", name)
    record_property("noticed by", caught.by if caught else f"nothing: {mutation.held_by}")
    record_property("example", str(caught.example or "") if caught else "")
    assert (caught is None) == bool(mutation.held_by), caught


def test_a_mutation_whose_fragment_is_gone_fails():
    mutation = Mutation("gone", "jobsite.programs.transitions.finish:FINISH", (("never written", ""),))

    with pytest.raises(LookupError, match="never written"), applied(mutation):
        pass
