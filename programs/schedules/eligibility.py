"""Whether a schedule whose time has come may fire: the job to insert, or the reason why not."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from jobsite.errors import Forbidden, NotFound, Refusal
from jobsite.programs.rules.lifecycle import OPEN, Trigger
from jobsite.programs.rules.recurrence import Decision, Fate
from jobsite.programs.schedules.occurrences import Occurrence
from jobsite.programs.submission import Options, preparation, quotas
from jobsite.tenants import principals
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal
from jobsite.values import times


@dataclass(frozen=True, slots=True)
class Due:
    """The row of a schedule whose time has come; `stopped` is the reason why it may not fire, if there is one."""

    id: int
    tenant_id: int
    code: str
    program: str
    program_version: int
    minute: str
    hour: str
    day_of_month: str
    month: str
    day_of_week: str
    interval_minutes: int | None
    anchor_at: datetime
    time_zone: str
    starts_at: datetime | None
    ends_at: datetime | None
    jitter_minutes: int
    parameters: str
    priority: int | None
    overlap: str
    missed: str
    missed_cap: int
    kind: str
    user_id: int | None
    owner: str
    next_at: datetime
    paused_at: datetime | None
    paused_by: str
    paused_reason: str
    paused_until: datetime | None
    late_at: datetime | None
    problem: str
    last_status: str | None
    last_job: int | None
    stopped: str | None
    now: datetime


class Eligibility:
    """Makes the jobs of schedules of these tenants, or says why there is none."""

    def __init__(self, tenants: Mapping[int, Tenant]) -> None:
        self._tenants = tenants
        self._principals: dict[tuple[object, ...], Principal | Refusal] = {}

    def occurrences(self, due: Due, decisions: Iterable[Decision]) -> Iterator[Occurrence]:
        """Each decision with the job to insert for it, or skipped with the reason."""
        before = f"job {due.last_job} is still {due.last_status}" if due.last_status in OPEN else ""
        for decision in decisions:
            if decision.fate is not Fate.FIRES:
                yield Occurrence(due.tenant_id, due.id, decision)
            elif stopped := due.stopped or (before if due.overlap == "SKIP" else ""):
                yield _skipped(due, decision, stopped)
            else:
                before = before or f"the job of {times.format_time(decision.at)} has just begun"
                yield self._with_a_job(due, decision)

    def _with_a_job(self, due: Due, decision: Decision) -> Occurrence:
        try:
            principal = self._principal(due)
            principal.require("jobs:write")
            known = preparation.known_program(principal, due.program)
            if known.program.version != due.program_version:
                preparation.forget(principal, due.program)
                known = preparation.known_program(principal, due.program)
            values = preparation.carried_values(known, json.loads(due.parameters), f"schedule {due.code}")
            options = Options(priority=due.priority, trigger=Trigger.AUTOMATIC)
            job = preparation.new_job(principal, known, values, options, scheduled_at=decision.at)
            quotas.take(principal.tenant, 1)
        except Refusal as error:
            return replace(_skipped(due, decision, str(error)), is_problem=True)
        return Occurrence(due.tenant_id, due.id, decision, job)

    def _principal(self, due: Due) -> Principal:
        key = (due.kind, due.user_id, due.owner, due.tenant_id)
        if (found := self._principals.get(key)) is None:
            tenant = self._tenants[due.tenant_id]
            try:
                found = principals.again(tenant, kind=due.kind, user_id=due.user_id, name=due.owner, door="schedule")
            except NotFound:
                found = Forbidden(f"owner left: {due.owner} is no active member of tenant {tenant.code} any more")
            self._principals[key] = found
        if isinstance(found, Refusal):
            raise found
        return found


def _skipped(due: Due, decision: Decision, reason: str) -> Occurrence:
    return Occurrence(due.tenant_id, due.id, replace(decision, fate=Fate.SKIPPED, reason=reason))
