"""What operators can do to jobs here, as data, and how it is done to one job after the other."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.utils import timezone

from jobsite.admin import display
from jobsite.admin.access import ADMIN, WRITE
from jobsite.admin.row_acts import Act
from jobsite.errors import Conflict, Refusal
from jobsite.programs import operations
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import TERMINAL, Status
from jobsite.tenants.principals import Principal

NAMED_REFUSALS = 20
"""At most this many refusals are shown one by one; the rest is counted."""


@dataclass(frozen=True)
class Order:
    """What was filled in on the page of an act."""

    reason: str = ""
    until: datetime | None = None
    policy: str = ""
    parameters: Mapping[str, Any] | None = None
    tokens: Mapping[int, UUID] = field(default_factory=dict)


Run = Callable[[Principal, int, Order], str]


def _hold(principal: Principal, number: int, order: Order) -> str:
    operations.jobs.hold(principal, number, reason=order.reason, until=order.until)
    return "held {jobs}"


def _release(principal: Principal, number: int, order: Order) -> str:
    operations.jobs.release(principal, number, reason=order.reason)
    return "released {jobs}"


def _cancel(principal: Principal, number: int, order: Order) -> str:
    status = operations.jobs.cancel(principal, number, reason=order.reason)
    return "canceled {jobs}" if status is Status.CANCELED else "asked {jobs} to stop"


def _retry(principal: Principal, number: int, order: Order) -> str:
    operations.jobs.retry(principal, number, parameters=order.parameters, reason=order.reason)
    return "retried {jobs}"


def _acknowledge(principal: Principal, number: int, order: Order) -> str:
    if not operations.jobs.acknowledge(principal, [number], reason=order.reason):
        raise Conflict("needs no review, left alone", code="no_review")
    return "acknowledged {jobs}"


def _expire(principal: Principal, number: int, order: Order) -> str:
    reaped = operations.jobs.expire_stuck(principal, [number], policy=order.policy, reason=order.reason)
    if not reaped:
        raise Conflict("not past its time limit, left alone", code="not_stuck")
    return "expired {jobs}" if reaped[0].status in TERMINAL else "expired {jobs}, to be run again"


def _clear(principal: Principal, number: int, order: Order) -> str:
    now = operations.jobs.locks(principal, [number])
    token = order.tokens.get(number)
    if not now or token is None:
        raise Conflict("holds no lock any more", code="no_lock")
    if not operations.jobs.clear_locks(principal, [replace(now[0], token=token)], reason=order.reason):
        raise Conflict("its lock is not stale, or was taken again since it was shown; left alone", code="not_stale")
    return "cleared the lock of {jobs}"


@dataclass(frozen=True, kw_only=True)
class JobAct(Act):
    """An act on one job or several, done job by job.

    `run` does it and returns what it did, with {jobs} for how many, or refuses.
    """

    run: Run
    listed: str = ""
    """What the list of jobs calls it, where that is not its label."""


def _may_be_held(job: Job) -> bool:
    return job.may_be_held


def _is_stuck(job: Job) -> bool:
    return job.status == "RUNNING" and job.stuck_at is not None and job.stuck_at < timezone.now()


ACTS = {
    act.name: act
    for act in (
        JobAct(
            "hold",
            "Hold",
            "Held jobs wait until they are released, or until the moment given here. Running jobs and those of a "
            "schedule cannot be held.",
            title="Hold jobs",
            scope=WRITE,
            applies=_may_be_held,
            asks=("reason", "until"),
            run=_hold,
        ),
        JobAct(
            "release",
            "Release",
            "Released jobs are dispatched as soon as they are due and there is room.",
            title="Release held jobs",
            scope=WRITE,
            applies=lambda job: job.hold_at is not None,
            run=_release,
        ),
        JobAct(
            "cancel",
            "Cancel",
            "Waiting jobs are canceled at once; running ones are asked to stop, and stopped by force after their "
            "program's grace period. This cannot be undone.",
            title="Cancel jobs",
            scope=WRITE,
            applies=lambda job: not job.is_terminal and job.cancel_requested_at is None,
            run=_cancel,
        ),
        JobAct(
            "retry",
            "Retry",
            "Each becomes a new job, which runs as you, with the same priority. The ended job stays as it is.",
            title="Retry ended jobs",
            scope=WRITE,
            applies=lambda job: job.is_terminal,
            asks=("reason", "parameters"),
            run=_retry,
        ),
        JobAct(
            "acknowledge",
            "Acknowledge",
            "Says that you have seen why they failed; they are no longer among those that need review.",
            title="Acknowledge failed jobs",
            scope=WRITE,
            applies=lambda job: job.needs_review,
            run=_acknowledge,
        ),
        JobAct(
            "expire",
            "Expire",
            "Ends jobs that run past their time limit. Jobs that are within it are left alone.",
            title="Expire stuck jobs",
            listed="Expire stuck",
            scope=ADMIN,
            applies=_is_stuck,
            asks=("reason", "policy"),
            run=_expire,
        ),
        JobAct(
            "clear",
            "Clear lock",
            "Takes jobs from workers that are gone, so that they can run again. A lock that is renewed, or was "
            "taken again since it was shown here, is left alone.",
            title="Clear stale locks",
            listed="Clear stale locks",
            scope=ADMIN,
            applies=lambda job: job.status == "RUNNING",
            run=_clear,
        ),
    )
}


@dataclass
class Report:
    """What became of an act."""

    done: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)
    errors: list[Mapping[str, str]] = field(default_factory=list)
    """Where the parameters of an order are wrong: pointers and messages."""

    @property
    def summary(self) -> str:
        """One sentence: what was done, and what was refused."""
        parts = [phrase.format(jobs=counted(count)) for phrase, count in self.done.items()]
        text = ", ".join(parts) or "Nothing was changed"
        if self.refused:
            text += f"; {len(self.refused)} refused"
            if len(self.refused) == 1:
                number, why = self.refused[0]
                text += f": {why} (#{number})"
        return display.sentence(text)

    @property
    def details(self) -> list[str]:
        """A sentence for each refused job, where the summary does not say it already."""
        if len(self.refused) < 2:
            return []
        named = [f"#{number}: {why}" for number, why in self.refused[:NAMED_REFUSALS]]
        rest = len(self.refused) - len(named)
        return [*named, f"… and {rest} more"] if rest else named


def counted(count: int) -> str:
    """How many jobs, in words."""
    return "1 job" if count == 1 else f"{count} jobs"


def perform(act: JobAct, jobs: Iterable[Job], order: Order, principal_of: Callable[[Job], Principal]) -> Report:
    """Do the act to each job, in a transaction of its own; refusals are part of the report."""
    report = Report()
    for job in jobs:
        try:
            report.done[act.run(principal_of(job), job.number, order)] += 1
        except Refusal as refusal:
            report.refused.append((job.number, str(refusal)))
            if refusal.code == "invalid_parameters":
                report.errors += cast("list[Mapping[str, str]]", refusal.details.get("errors", []))
    return report
