"""What operators do to jobs here: each act asked for once, confirmed once, and done job by job through steering."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django import forms
from django.utils import timezone

from jobsite.admin import display
from jobsite.admin.access import ADMIN, WRITE
from jobsite.admin.reason_form import ReasonForm
from jobsite.errors import Conflict, Refusal
from jobsite.programs import operations
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import TERMINAL, Status
from jobsite.tenants.principals import Principal

NAMED_REFUSALS = 20
"""So many refusals are told one by one; the rest is a number."""


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
        raise Conflict("its lock is not stale, or was taken anew since it was shown; left alone", code="not_stale")
    return "cleared the lock of {jobs}"


@dataclass(frozen=True)
class Act:
    """One thing that can be done to jobs; `applies` says to which, as far as a page can know."""

    name: str
    label: str
    title: str
    explanation: str
    scope: str
    run: Run
    applies: Callable[[Job], bool]
    asks_until: bool = False
    asks_policy: bool = False
    asks_parameters: bool = False


def _may_be_held(job: Job) -> bool:
    return job.may_be_held


def _is_stuck(job: Job) -> bool:
    return job.status == "RUNNING" and job.stuck_at is not None and job.stuck_at < timezone.now()


ACTS = {
    act.name: act
    for act in (
        Act(
            "hold",
            "Hold",
            "Hold jobs",
            "Held jobs wait until they are released, or until the moment given here. Running jobs and those of a "
            "schedule cannot be held.",
            WRITE,
            _hold,
            _may_be_held,
            asks_until=True,
        ),
        Act(
            "release",
            "Release",
            "Release held jobs",
            "Released jobs are dispatched as soon as they are due and there is room.",
            WRITE,
            _release,
            lambda job: job.hold_at is not None,
        ),
        Act(
            "cancel",
            "Cancel",
            "Cancel jobs",
            "Waiting jobs are canceled at once; running ones are asked to stop, and stopped by force after their "
            "program's grace. This cannot be undone.",
            WRITE,
            _cancel,
            lambda job: not job.is_terminal and job.cancel_requested_at is None,
        ),
        Act(
            "retry",
            "Retry",
            "Retry ended jobs",
            "Each becomes a new job, which runs as you, with the same priority. The ended job stays as it is.",
            WRITE,
            _retry,
            lambda job: job.is_terminal,
            asks_parameters=True,
        ),
        Act(
            "acknowledge",
            "Acknowledge",
            "Acknowledge failed jobs",
            "Says that you have seen why they failed; they are no longer among those that need review.",
            WRITE,
            _acknowledge,
            lambda job: job.needs_review,
        ),
        Act(
            "expire",
            "Expire",
            "Expire stuck jobs",
            "Ends jobs that run past their time limit. Jobs that are within it are left alone.",
            ADMIN,
            _expire,
            _is_stuck,
            asks_policy=True,
        ),
        Act(
            "clear",
            "Clear lock",
            "Clear stale locks",
            "Takes jobs from workers that are gone, so that they can run again. A lock that is renewed, or was "
            "taken anew since it was shown here, is left alone.",
            ADMIN,
            _clear,
            lambda job: job.status == "RUNNING",
        ),
    )
}


class ActForm(ReasonForm):
    """Why, and for some acts until when or what then; for the retry of a single job also its parameters."""

    reason_help = "Kept with the job and in the audit."
    until_label = "Hold until (UTC)"
    until_help = "Empty: until somebody releases it."
    field_order = ("parameters", "reason", "until", "policy")

    parameters = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10, "cols": 60, "class": "jobsite-json", "spellcheck": "false"}),
        help_text="A JSON object. Unchanged, the new job gets exactly what the old one had.",
    )
    policy = forms.ChoiceField(
        required=False,
        label="And then",
        choices=[("", "as the program says"), ("RETRY", "run again"), ("FAIL", "fail")],
    )

    def __init__(self, act: Act, data: Mapping[str, Any] | None = None, *, single: Job | None = None) -> None:
        """`single` is the job, where the act is for one alone."""
        super().__init__(data, asks_until=act.asks_until)
        if single is not None and act.asks_parameters:
            self._shown = display.pretty(single.parameters)
            self.fields["parameters"].initial = self._shown
        else:
            del self.fields["parameters"]
        if not act.asks_policy:
            del self.fields["policy"]

    def clean_parameters(self) -> dict[str, Any] | None:
        """The edited parameters; None where they are as they were shown."""
        try:
            given = json.loads(self.cleaned_data["parameters"])
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise forms.ValidationError("Parameters are a JSON object, in braces.")
        # As text: in Python true is 1 and 1 is 1.0.
        is_unchanged = _canonical(given) == _canonical(json.loads(self._shown))
        return None if is_unchanged else given

    def order(self, tokens: Mapping[int, UUID]) -> Order:
        """What was filled in."""
        given = self.cleaned_data
        return Order(given["reason"], given.get("until"), given.get("policy", ""), given.get("parameters"), tokens)

    def refuse_parameters(self, errors: Sequence[Mapping[str, str]]) -> bool:
        """Say beside the parameters what their schema refuses, and where; whether there is anything to say."""
        for one in errors:
            self.add_error("parameters", f"{one['pointer'] or 'as a whole'}: {one['message']}")
        return bool(errors)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


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
        parts = [phrase.format(jobs=_jobs(count)) for phrase, count in self.done.items()]
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
        told = [f"#{number}: {why}" for number, why in self.refused[:NAMED_REFUSALS]]
        rest = len(self.refused) - len(told)
        return [*told, f"… and {rest} more"] if rest else told


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def perform(act: Act, jobs: Iterable[Job], order: Order, principal_of: Callable[[Job], Principal]) -> Report:
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
