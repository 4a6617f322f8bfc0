"""What a contender is: how its workers are started, how jobs are submitted to it, and how many have finished."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from jobsite.bench.processes import Launch

# The kinds of job: as short as possible; the same with one job per message; one that sleeps.
SHORT, ALONE, SLEEPING = "short", "alone", "sleeping"
CHATTY = "chatty"  # one job, a command that writes many lines
SLEEP_SECONDS = 0.05


class Client(ABC):
    """A connected client of one contender. It lives in a process of its own (agent.py)."""

    @abstractmethod
    def submit(self, mark: int, kind: str) -> None:
        """Submit one job. It is durable when this returns, as far as the contender offers that."""

    def submit_many(self, marks: Sequence[int], kind: str) -> None:
        """Submit jobs by the fastest way that the contender offers."""
        for mark in marks:
            self.submit(mark, kind)

    def chatter(self, count: int) -> int | None:
        """Run one job that writes `count` lines. Returns how many are stored; None where lines are not kept."""
        return None

    @abstractmethod
    def clear(self) -> None:
        """Remove all jobs. Nothing runs meanwhile."""

    def finished(self) -> int | None:
        """The number of jobs that have ended durably since `clear`; None where that is not recorded."""
        return None

    def is_warm(self) -> bool:
        """Whether the contender has run its jobs often enough to know what it learns about them."""
        return True


@dataclass(frozen=True)
class Contender(ABC):
    """One system with one configuration, as the driver sees it.

    `pace` is about what it drains in a second. The size of its backlogs follows from it, so that each takes some
    seconds.
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
        """The modules that it needs but that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    @abstractmethod
    def workers(self) -> list[Launch]:
        """The worker processes: two that share the work, or one with two children, or one with eight threads."""

    @abstractmethod
    def connect(self) -> Client:
        """Connect, and create what the contender needs. Called in the agent's process."""
