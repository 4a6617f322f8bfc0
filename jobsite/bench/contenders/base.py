"""What a contender is: how its workers are started, and how a program submits to it and asks what is done."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from jobsite.bench.processes import Launch

# The kinds of job: as short as can be; the same with one job a message; one that takes its time.
SHORT, ALONE, SLEEPING = "short", "alone", "sleeping"
CHATTY = "chatty"  # a command that writes lines, one job of it
SLEEP_SECONDS = 0.05


class Client(ABC):
    """One contender as a program uses it, connected; lives in a process of its own (agent.py)."""

    @abstractmethod
    def submit(self, mark: int, kind: str) -> None:
        """Submit one job: durable when this returns, as far as the contender ever is."""

    def submit_many(self, marks: Sequence[int], kind: str) -> None:
        """Submit jobs by the fastest way that the contender offers."""
        for mark in marks:
            self.submit(mark, kind)

    def chatter(self, count: int) -> int | None:
        """Run one job to its end that writes so many lines; how many are stored, None where none are kept."""
        return None

    @abstractmethod
    def clear(self) -> None:
        """Forget all jobs; nothing runs meanwhile."""

    def finished(self) -> int | None:
        """How many jobs have ended durably since `clear`; None where that is not recorded."""
        return None

    def is_warm(self) -> bool:
        """Whether the contender knows about its jobs what it learns by running them."""
        return True


@dataclass(frozen=True)
class Contender(ABC):
    """One system with one setting, as the driver sees it.

    `pace` is about what it drains in a second: its backlogs are sized by it, so that each takes some seconds.
    """

    name: str
    title: str
    pace: float
    children: int = 2
    database: str | None = None

    needs: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = (SHORT,)
    has_bulk: ClassVar[bool] = False

    @property
    def missing(self) -> list[str]:
        """The modules that it needs and that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    @abstractmethod
    def workers(self) -> list[Launch]:
        """The worker processes: two that share the work, or one with two children, or one with eight threads."""

    @abstractmethod
    def connect(self) -> Client:
        """Connect, and make what has to be there; called in the agent's process."""
