"""The life of a job as data: its statuses, and every move that there is (docs/protocol.md, "Moves")."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a job is."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def phase(self) -> "Phase":
        """The coarse view that rules and people use."""
        if self in TERMINAL:
            return Phase.COMPLETED
        return Phase.PENDING if self in UNSTARTED else Phase.RUNNING


class Phase(StrEnum):
    """PENDING (PENDING, QUEUED), RUNNING (RUNNING, WAITING), COMPLETED (terminal)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"


class Outcome(StrEnum):
    """How it went; FAILED has ERROR, COMPLETED has NORMAL or WARNING."""

    NORMAL = "NORMAL"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Trigger(StrEnum):
    """Who asked for the job: a schedule, a person or program, a parent."""

    AUTOMATIC = "AUTOMATIC"
    MANUAL = "MANUAL"
    CHILD = "CHILD"


class Blocked(StrEnum):
    """Why dispatch does not look at a PENDING job; NULL means that it does."""

    SCHEDULED = "SCHEDULED"
    HELD = "HELD"
    PAUSED = "PAUSED"
    OVERLAP = "OVERLAP"


class FailureKind(StrEnum):
    """Why a FAILED job failed."""

    PERMANENT = "PERMANENT"
    TRANSIENT = "TRANSIENT"
    TIMEOUT = "TIMEOUT"
    WORKER_LOST = "WORKER_LOST"
    REFUSED = "REFUSED"


class AttemptResult(StrEnum):
    """How one attempt ended."""

    SUCCESS = "SUCCESS"
    PARKED = "PARKED"
    TRANSIENT = "TRANSIENT"
    PERMANENT = "PERMANENT"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    CANCELED = "CANCELED"
    RETURNED = "RETURNED"
    CLEARED = "CLEARED"


class StepStatus(StrEnum):
    """How far a step of a job is."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


def step_name(action: str, name: str) -> str:
    """What people call a step: its action, and its own name where it is a part of one."""
    return f"{action}: {name}" if name else action


class Overlap(StrEnum):
    """What a program does with a second job of the same key."""

    ALLOW = "ALLOW"
    REJECT = "REJECT"
    QUEUE = "QUEUE"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELED})
OPEN = frozenset(Status) - TERMINAL
UNSTARTED = frozenset({Status.PENDING, Status.QUEUED})
"""The statuses before a worker has claimed the job."""
ACTIVE = OPEN - {Status.PENDING}
"""The statuses in which a job of overlap QUEUE holds its key. Between two runs a PENDING one holds it too."""


def listed(values: Iterable[str]) -> str:
    """The values as SQL writes them after IN."""
    return "(" + ", ".join(f"'{value}'" for value in sorted(values)) + ")"


IS_OPEN = f"status IN {listed(OPEN)}"
"""The condition of the partial indexes of open jobs."""
IS_READY = f"status = '{Status.PENDING}' AND blocked IS NULL"
"""The condition of the partial index of the lanes: whether dispatch may take the job."""


@dataclass(frozen=True)
class Transition:
    """One move: its name, where it may start, where it may end."""

    name: str
    sources: tuple[Status, ...]
    targets: tuple[Status, ...]

    @property
    def source(self) -> Status:
        """The one status where it starts; ValueError where there are several."""
        (source,) = self.sources
        return source

    @property
    def target(self) -> Status:
        """The one status where it ends; ValueError where there are several."""
        (target,) = self.targets
        return target


S = Status
DISPATCH = Transition("dispatch", (S.PENDING,), (S.QUEUED,))
CLAIM = Transition("claim", (S.QUEUED,), (S.RUNNING, S.PENDING, S.CANCELED))
FINISH = Transition("finish", (S.RUNNING,), (S.COMPLETED, S.WAITING, S.FAILED, S.CANCELED, S.PENDING))
GIVE_BACK = Transition("give back", (S.RUNNING,), (S.PENDING, S.FAILED, S.CANCELED))
REAP = Transition("reap", (S.RUNNING,), (S.PENDING, S.FAILED, S.CANCELED))
EXPIRE = Transition("expire", (S.RUNNING,), (S.PENDING, S.FAILED, S.CANCELED))
CANCEL = Transition("cancel", (S.PENDING, S.QUEUED, S.WAITING), (S.CANCELED,))
HOLD = Transition("hold", (S.PENDING, S.QUEUED), (S.PENDING,))
BLOCK = Transition("block", (S.PENDING, S.QUEUED), (S.PENDING,))
REQUEUE = Transition("requeue", (S.QUEUED,), (S.PENDING,))
RESOLVE = Transition("resolve", (S.WAITING,), (S.COMPLETED, S.FAILED, S.PENDING))

NEVER_HELD = Trigger.AUTOMATIC
"""A schedule's job is never held: its schedule is paused instead."""

TRANSITIONS = (DISPATCH, CLAIM, FINISH, GIVE_BACK, REAP, EXPIRE, CANCEL, HOLD, BLOCK, REQUEUE, RESOLVE)

MOVES: frozenset[tuple[Status, Status]] = frozenset(
    (source, target)
    for transition in TRANSITIONS
    for source in transition.sources
    for target in transition.targets
    if source != target
)
"""Every change of status that the database lets through; the trigger job_moves_are_legal holds the same."""
