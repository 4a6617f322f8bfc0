"""A schedule as it is asked for, and what is wrong with its fields, each by its name; the same for every door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import available_timezones

from jobsite.errors import Invalid
from jobsite.programs.models import CRON_FIELDS, MAX_CAP, MAX_INTERVAL_MINUTES, MAX_JITTER_MINUTES, Schedule
from jobsite.programs.parameters import secrets
from jobsite.programs.rules import cron
from jobsite.programs.rules.recurrence import Missed
from jobsite.programs.submission import Known, preparation
from jobsite.tenants.principals import Principal
from jobsite.values import storable, times

MAX_DESCRIPTION = 1_000


@dataclass(frozen=True)
class Wanted:
    """A schedule as it is asked for, not validated yet.

    Where any cron field is given, the others are `*`. Moments are RFC 3339 texts or aware datetimes.
    """

    program: str
    minute: str = ""
    hour: str = ""
    day_of_month: str = ""
    month: str = ""
    day_of_week: str = ""
    interval_minutes: int | None = None
    time_zone: str = ""
    jitter_minutes: int = 0
    starts_at: datetime | str | None = None
    ends_at: datetime | str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None
    overlap: str = Schedule.Overlap.ALLOW
    missed: str = Missed.ONE
    missed_cap: int = 10
    description: str = ""


def invalid(errors: Mapping[str, str]) -> Invalid:
    """The error for fields that are wrong: by each name, what is wrong with it."""
    message = "; ".join(f"{name}: {wrong}" for name, wrong in errors.items())
    listed = [{"pointer": f"/{name}", "message": wrong} for name, wrong in errors.items()]
    return Invalid(message, code="invalid_schedule", errors=listed)


def check(principal: Principal, wanted: Wanted, *, kept: Schedule | None = None) -> dict[str, Any]:
    """The columns of a schedule as it is asked for; `kept` is the row to change, whose secrets may stay.

    Raises Invalid (invalid_schedule) with an error for each field that is wrong, NotFound for the program.
    """
    errors: dict[str, str] = {}
    columns: dict[str, Any] = {}
    for look in (_times_of, _limits_of, _policies_of):
        columns |= look(principal, wanted, errors)
    preparation.forget(principal, wanted.program)
    known = preparation.known_program(principal, wanted.program)
    columns |= {"program": known.program, "parameters": _sealed(known, wanted.parameters, errors, kept)}
    if errors:
        raise invalid(errors)
    return columns


def _times_of(principal: Principal, wanted: Wanted, errors: dict[str, str]) -> dict[str, Any]:
    given = {name: getattr(wanted, name) for name in CRON_FIELDS}
    minutes = wanted.interval_minutes
    zone = wanted.time_zone or principal.tenant.time_zone
    if zone not in available_timezones():
        errors["time_zone"] = f"{zone!r:.80} is no IANA time zone such as Europe/Berlin"
    if any(given.values()):
        if minutes is not None:
            errors["interval_minutes"] = "give a cron line or an interval, not both"
        try:
            line = cron.parse(**{name: value or "*" for name, value in given.items()})
        except cron.CronError as error:
            errors |= error.errors
        else:
            given = {name: getattr(line, name) for name in CRON_FIELDS}
    elif minutes is None:
        errors["minute"] = "give a cron line, or an interval"
    elif not _is_whole(minutes, 1, MAX_INTERVAL_MINUTES):
        errors["interval_minutes"] = f"expected 1 to {MAX_INTERVAL_MINUTES:,} minutes, got {minutes!r:.80}"
    return {**given, "interval_minutes": minutes, "time_zone": zone}


def _limits_of(principal: Principal, wanted: Wanted, errors: dict[str, str]) -> dict[str, Any]:
    if not _is_whole(wanted.jitter_minutes, 0, MAX_JITTER_MINUTES):
        errors["jitter_minutes"] = f"expected 0 to {MAX_JITTER_MINUTES} minutes, got {wanted.jitter_minutes!r:.80}"
    moments = {name: _moment(name, getattr(wanted, name), errors) for name in ("starts_at", "ends_at")}
    if moments["starts_at"] and moments["ends_at"] and moments["ends_at"] <= moments["starts_at"]:
        errors["ends_at"] = "it ends before it starts"
    return {"jitter_minutes": wanted.jitter_minutes, **moments}


def _moment(name: str, given: datetime | str | None, errors: dict[str, str]) -> datetime | None:
    if given is None or given == "":
        return None
    try:
        return times.within_reason(times.parse_time(given) if isinstance(given, str) else given)
    except times.TimeError as error:
        errors[name] = str(error)
        return None


def _policies_of(principal: Principal, wanted: Wanted, errors: dict[str, str]) -> dict[str, Any]:
    if wanted.priority is not None and not _is_whole(wanted.priority, -100, 100):
        errors["priority"] = f"expected a whole number from -100 to 100, got {wanted.priority!r:.80}"
    for name, allowed in (("overlap", [*Schedule.Overlap.values]), ("missed", [*Missed])):
        if (given := getattr(wanted, name)) not in allowed:
            errors[name] = f"expected {', '.join(allowed[:-1])} or {allowed[-1]}, got {given!r:.80}"
    if not _is_whole(wanted.missed_cap, 1, MAX_CAP):
        errors["missed_cap"] = f"expected 1 to {MAX_CAP}, got {wanted.missed_cap!r:.80}"
    if len(wanted.description) > MAX_DESCRIPTION or not storable.is_storable(wanted.description):
        errors["description"] = f"expected at most {MAX_DESCRIPTION} characters of valid text"
    names = ("priority", "overlap", "missed", "missed_cap", "description")
    return {name: getattr(wanted, name) for name in names}


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _sealed(
    known: Known, given: Mapping[str, Any], errors: dict[str, str], kept: Schedule | None
) -> dict[str, Any] | None:
    """The parameters to store: as given, with their secrets encrypted. Each job adds the schema's defaults."""
    try:
        if kept is not None and given == kept.parameters:
            values = preparation.carried_values(known, kept.parameters, f"schedule {kept.code}")
            places = known.validator.secrets_in(values) if known.validator.has_secrets else []
            if set(places) <= set(secrets.sealed_in(kept.parameters)):
                return dict(kept.parameters)
            return secrets.encrypted(dict(secrets.opened(kept.parameters)[0]), places)
        values = preparation.validated(known, given)
    except Invalid as error:
        wrong = error.details.get("errors")
        for one in wrong if isinstance(wrong, list) else [{"pointer": "", "message": str(error)}]:
            errors[f"parameters{one['pointer']}"] = one["message"]
        return None
    places = known.validator.secrets_in(values) if known.validator.has_secrets else []
    return secrets.encrypted(dict(given), places)
