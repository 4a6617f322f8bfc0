"""What the reference knows of programs, workers and jobs; moments in ticks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from uuid import UUID

PRIORITY_STEP, SHORT = 0.06, 0.004
MAX_FAILURES = 3
TERMINAL = ("COMPLETED", "FAILED", "CANCELED")


@dataclass
class Program:
    id: int
    tenant: str
    queue: str
    max_losses: int = 3
    fails_when_lost: bool = False
    retries_timeouts: bool = False
    max_attempts: int = 3
    counts_failures: bool = False
    seconds: float = inf  # of a run, as far as is known
    overlap: str = "ALLOW"
    fails_with_children: bool = False
    takes_children_along: bool = False
    failures: int = 0
    status: str = "ACTIVE"

    def fail(self) -> None:
        """One more of its jobs has failed."""
        if self.counts_failures:
            self.failures += 1
            self.status = "TERMINATED" if self.failures >= MAX_FAILURES else self.status


@dataclass
class Worker:
    incarnation: UUID
    name: str
    manager: str
    queues: Sequence[str]
    children: int
    seen: float
    status: str = "ACTIVE"
    is_gone: bool = False


@dataclass(repr=False)
class Job:
    number: int
    program: Program
    due: float
    priority: int = 0
    scheduled: float = 0.0  # the moment of its submission; only compared
    trigger: str = "MANUAL"
    blocked: str | None = None
    key: str | None = None
    once: str | None = None
    retry_of: int | None = None
    status: str = "PENDING"
    attempts: int = 0
    losses: int = 0
    returns: int = 0
    fence: int = 0
    token: UUID | None = None
    owner: UUID | None = None
    message: UUID | None = None
    claimed: float | None = None
    expires: float | None = None
    stuck: float | None = None
    queued: float | None = None
    hold_until: float | None = None
    is_grouped: bool = False
    is_alone: bool = False
    is_asked: bool = False
    failure: str | None = None
    parent: int | None = None
    child_key: str | None = None
    parent_fence: int | None = None
    parked: int | None = None
    history: list[tuple[int, UUID, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"#{self.number}"

    @property
    def is_ready(self) -> bool:
        return self.status == "PENDING" and self.blocked is None

    @property
    def is_groupable(self) -> bool:
        """Whether it may share a message with others of its program."""
        return self.program.seconds <= SHORT and not self.is_alone and self.losses == 0 and self.parent is None

    @property
    def is_open(self) -> bool:
        return self.status not in TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether it holds its QUEUE key."""
        return self.status in ("QUEUED", "RUNNING", "WAITING") or (self.status == "PENDING" and self.attempts > 0)

    def earlier(self, *results: str) -> int:
        """How many of its runs before its callback ended in these ways."""
        return sum(fence <= (self.parked or 0) and result in results for fence, _, result in self.history)

    @property
    def rank(self) -> tuple[float, int]:
        return self.due - self.priority * PRIORITY_STEP, self.number
