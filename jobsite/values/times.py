"""Moments as entry points read and write them: RFC 3339 with a zone in, UTC with milliseconds out."""

import re
from datetime import UTC, datetime, timedelta

from jobsite.values.durations import SECONDS, DurationError, parse_duration

MAX_YEARS_AHEAD = 5

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_FORM = 'RFC 3339 such as "2026-11-22T01:02:03Z"'


class TimeError(ValueError):
    """A text or value is not a moment that can be used here. The message says which form is expected."""


def parse_time(text: object) -> datetime:
    """The moment, in UTC, of an RFC 3339 text with a zone. Raises TimeError for everything else."""
    match = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if not isinstance(text, str) or match is None:
        raise TimeError(f"{_shown(text)} is not a time: expected {_FORM}")
    if match["zone"] is None:
        raise TimeError(f'the time {_shown(text)} has no zone: add "Z" or an offset such as "+01:00"')
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimeError(f"{_shown(text)} is not a time: {error}") from error


def parse_scheduled_at(value: object, *, now: datetime) -> datetime:
    """When a job is to run, in UTC, from an RFC 3339 text or an aware datetime.

    The past is allowed and due at once; more than five years after `now` is a TimeError.
    """
    at = _aware(value) if isinstance(value, datetime) else parse_time(value)
    latest = _years_after(now, MAX_YEARS_AHEAD)
    if at > latest:
        raise TimeError(f"{format_time(at)} is more than {MAX_YEARS_AHEAD} years ahead: at most {format_time(latest)}")
    return at


def parse_since(text: str, *, now: datetime) -> datetime:
    """The moment of a filter: `1h` (before `now`) or an RFC 3339 text. Raises TimeError for everything else."""
    try:
        if text.endswith(tuple(SECONDS)):
            return _aware(now) - timedelta(seconds=parse_duration(text))
        return parse_time(text)
    except DurationError as error:
        raise TimeError(f"{error}, or a time: {_FORM}") from error
    except TimeError as error:
        raise TimeError(f'{error}, or a duration such as "1h"') from error


def within_reason(moment: datetime) -> datetime:
    """The moment in UTC. Raises TimeError without a zone, and before 2000 or after 2199, where zones mean little."""
    at = _aware(moment)
    if not 2000 <= at.year < 2200:
        raise TimeError(f"{at.date().isoformat()} is out of reach: expected a time from 2000 to 2199")
    return at


def format_time(moment: datetime) -> str:
    """`2026-11-22T01:02:03.123Z`: UTC, cut to milliseconds. Raises TimeError for a moment without a zone."""
    return _aware(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable_time(moment: datetime, *, timespec: str = "minutes") -> str:
    """`2026-11-22 01:02 UTC`, or with `timespec` "seconds" `2026-11-22 01:02:03 UTC`, for people to read.

    Raises TimeError for a moment without a zone.
    """
    return f"{_aware(moment).replace(tzinfo=None).isoformat(' ', timespec)} UTC"


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise TimeError(f"the time {moment.isoformat()} has no zone: use an aware datetime")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise TimeError(f"the time {moment.isoformat()} is out of range in UTC") from error


def _years_after(moment: datetime, years: int) -> datetime:
    moment = _aware(moment)
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:  # 29 February
        return moment.replace(year=moment.year + years, month=3, day=1)


def _shown(value: object) -> str:
    return f'"{value:.80}"' if isinstance(value, str) else f"a value of type {type(value).__name__}"
