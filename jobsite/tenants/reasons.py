"""What operators give with their acts, through every door: why, and until when."""

from datetime import datetime

from django.utils import timezone

from jobsite.errors import Invalid
from jobsite.values import storable, times

MAX_REASON = 1_000


def check_reason(reason: str) -> None:
    """Raise Invalid (invalid_reason) unless the text can be stored."""
    if len(reason) > MAX_REASON or not storable.is_storable(reason):
        raise Invalid(f"a reason has at most {MAX_REASON} characters of valid text", code="invalid_reason")


def end_of(until: datetime | str | None) -> datetime | None:
    """The moment at which something is to end; None for no end. Raises Invalid (invalid_time) for any other text."""
    if until is None:
        return None
    try:
        end = times.parse_scheduled_at(until, now=timezone.now())
    except times.TimeError as error:
        raise Invalid(f"until: {error}", code="invalid_time") from error
    if end <= timezone.now():
        raise Invalid("until lies in the past", code="invalid_time")
    return end
