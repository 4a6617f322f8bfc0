"""Whether a schedule whose time has come may fire: the job that it wants, or what stands in its way."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jobsite.errors import Forbidden, Invalid, NotFound, Refusal
from jobsite.tenants.models import Tenant
from programs import preparation, principals, quotas, times
from programs.lifecycle import OPEN, Trigger
from programs.preparation import Known, Options
from programs.principals import Principal
from programs.recurrence import Decision, Fate, Pause
from programs.turns import Turn


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule whose time has come, as its row is; `stopped` says why nothing of it may fire, if so."""

    id: int
    tenant_id: int
    code: str
    program: str
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

    @property
    def pause(self) -> Pause | None:
        """Its pause, which may have reached its end."""
        if self.paused_at is None:
            return None
        return Pause(self.paused_at, self.paused_until, self.paused_by, self.paused_reason)


class Readiness:
    """Makes the jobs of schedules whose tenants are these, or says what stands in their way."""

    def __init__(self, tenants: Mapping[int, Tenant]) -> None:
        self._tenants = tenants
        self._principals: dict[tuple[object, ...], Principal | Refusal] = {}
        self._read_anew: set[tuple[int, str]] = set()

    def turns(self, due: Due, decisions: Iterable[Decision]) -> Iterator[Turn]:
        """Each decision, with the job that it wants; or skipped, with the reason."""
        before = f"job {due.last_job} is still {due.last_status}" if due.last_status in OPEN else ""
        for decision in decisions:
            if decision.fate is not Fate.FIRES:
                yield Turn(due.tenant_id, due.id, decision)
            elif stopped := due.stopped or (before if due.overlap == "SKIP" else ""):
                yield _skipped(due, decision, stopped)
            else:
                before = before or f"the job of {times.format_time(decision.at)} has just begun"
                yield self._with_a_job(due, decision)

    def _values(self, due: Due, principal: Principal) -> tuple[Known, dict[str, Any]]:
        """The parameters, by the program; one that does not take them is read anew, once, before that is believed."""
        stored, whose, key = json.loads(due.parameters), f"schedule {due.code}", (due.tenant_id, due.program)
        known = preparation.known_program(principal, due.program)
        try:
            return known, preparation.carried_values(known, stored, whose)
        except Invalid:
            if key in self._read_anew:
                raise
        self._read_anew.add(key)
        preparation.forget(principal, due.program)
        known = preparation.known_program(principal, due.program)
        return known, preparation.carried_values(known, stored, whose)

    def _with_a_job(self, due: Due, decision: Decision) -> Turn:
        try:
            principal = self._principal(due)
            principal.require("jobs:write")
            known, values = self._values(due, principal)
            options = Options(priority=due.priority, trigger=Trigger.AUTOMATIC)
            job = preparation.new_job(principal, known, values, options, scheduled_at=decision.at)
            quotas.take(principal.tenant, 1)
        except Refusal as error:
            return replace(_skipped(due, decision, str(error)), is_problem=True)
        return Turn(due.tenant_id, due.id, decision, job)

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


def _skipped(due: Due, decision: Decision, reason: str) -> Turn:
    return Turn(due.tenant_id, due.id, replace(decision, fate=Fate.SKIPPED, reason=reason))
