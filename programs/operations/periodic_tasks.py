"""Take over django-celery-beat's PeriodicTasks: each becomes a program that runs its Celery task, and a schedule."""

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from jobsite.errors import Invalid, Refusal
from jobsite.programs import definitions, schedules
from jobsite.programs.actions import python
from jobsite.programs.context import UnknownAction
from jobsite.programs.definitions import registration
from jobsite.programs.models import Program
from jobsite.programs.operations import pausing
from jobsite.programs.rules import recurrence
from jobsite.programs.schedules import Wanted
from jobsite.tenants.principals import Principal

SECONDS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


@dataclass(frozen=True)
class Imported:
    """The result for one task: the schedule's code, None if it cannot be imported; `note` says what is different."""

    name: str
    code: str | None
    words: str = ""
    note: str = ""


class CannotImport(Exception):
    """Why a periodic task cannot become a schedule."""


def import_all(principal: Principal, *, queue: str, is_trial: bool) -> list[Imported]:
    """Turn all periodic tasks into schedules and disable them, so that nothing runs twice; a trial changes nothing.

    A task that was disabled becomes a paused schedule. A task that cannot be imported stays as it is; its note says
    why. Raises Forbidden without jobs:admin, or if the principal may not define such programs.
    """
    principal.require("jobs:admin")
    with transaction.atomic():
        rows = PeriodicTask.objects.select_related("crontab", "interval", "solar", "clocked").order_by("name")
        # Tasks that the scheduler makes for Celery itself stay with Celery.
        found = [_imported(principal, row, queue) for row in rows.exclude(name__startswith="celery.")]
        if is_trial:
            transaction.set_rollback(True)
        else:
            PeriodicTasks.update_changed()
    return found


def _imported(principal: Principal, row: PeriodicTask, queue: str) -> Imported:
    code = _code(row.name)
    try:
        with transaction.atomic():
            when, note = _times(row)
            parameters = _parameters(row)
            program = _program(principal, row.task, queue)
            schedule = schedules.create(
                principal,
                code,
                Wanted(program=program, parameters=parameters, description=row.description or row.name, **when),
            )
            if not row.enabled:
                pausing.pause_schedule(principal, code, reason="it was disabled as a periodic task")
                note = "; ".join(filter(None, [note, "paused: it was disabled"]))
            PeriodicTask.objects.filter(pk=row.pk).update(enabled=False)
    except (CannotImport, Refusal) as error:
        return Imported(row.name, None, note=str(error))
    return Imported(row.name, code, recurrence.words(schedule), note)


def _code(name: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-._")[:100] or "task"


def _times(row: PeriodicTask) -> tuple[dict[str, Any], str]:
    """The fields of Wanted that say when, and a note on what is different from Celery."""
    when: dict[str, Any] = {"starts_at": _future(row.start_time), "ends_at": row.expires}
    if row.one_off:
        raise CannotImport("it runs once: submit a job with a time instead")
    if row.interval is not None:
        return when | {"interval_minutes": _minutes(row.interval)}, ""
    if row.crontab is None:
        raise CannotImport("it runs by the sun or at one moment, which a schedule cannot do")
    line = row.crontab
    fields = {
        "minute": line.minute,
        "hour": line.hour,
        "day_of_month": line.day_of_month,
        "month": line.month_of_year,
        "day_of_week": line.day_of_week,
    }
    fields = {name: value.replace(" ", "") for name, value in fields.items()}
    is_or = not (fields["day_of_month"].startswith("*") or fields["day_of_week"].startswith("*"))
    note = "day of month OR day of week, as in cron; Celery demanded both" if is_or else ""
    return when | fields | {"time_zone": str(line.timezone)}, note


def _minutes(interval: Any) -> int:
    seconds = interval.every * SECONDS.get(interval.period, 0)
    if not seconds or seconds % 60:
        raise CannotImport(f"every {interval.every} {interval.period}: a schedule counts in whole minutes")
    return int(seconds // 60)


def _future(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and moment > timezone.now() else None


def _parameters(row: PeriodicTask) -> dict[str, Any]:
    """The task's keyword arguments, and its positional arguments by their names in the task's signature."""
    positional, named = _json(row.args, list), _json(row.kwargs, dict)
    return {**dict(zip(_names(row.task, len(positional)), positional, strict=True)), **named}


def _json(text: str, kind: type) -> Any:
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError) as error:
        raise CannotImport(f"its arguments are not JSON: {error}") from error
    return value if isinstance(value, kind) else kind()


def _names(task: str, count: int) -> Sequence[str]:
    if not count:
        return ()
    try:
        function = python.find_function(task)
    except UnknownAction as error:
        raise CannotImport(f"the names of its arguments are unknown: {error}") from error
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = inspect.signature(getattr(function, "run", function)).parameters.values()
    names = [one.name for one in known if one.kind in places]
    if len(names) < count:
        raise CannotImport(f"its task takes {len(names)} arguments by position, but it is given {count}")
    return names[:count]


def _program(principal: Principal, task: str, queue: str) -> str:
    """The code of the program that runs this Celery task, made where there is none."""
    code = _code(task)
    there = Program.objects.filter(tenant=principal.tenant, code=code, deleted_at__isnull=True).first()
    if there is not None:
        known = list(there.actions.values_list("kind", "configuration"))
        if known != [("python", {"target": task})]:
            raise CannotImport(f"there is a program {code} that does something other than {task}")
        return code
    definition = {
        "code": code,
        "name": {"en": task},
        "queue": queue,
        "parameters": {"type": "object"},
        "action": [{"kind": "python", "target": task}],
    }
    try:
        parsed = definitions.from_mapping(definition, where=f"task {task}", queues=[queue])
    except definitions.DefinitionError as error:
        raise Invalid(str(error)) from error
    registration.load(principal, [parsed])
    return code
