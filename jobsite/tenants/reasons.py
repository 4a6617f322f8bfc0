"""What operators give with their acts, whatever the door: why, and until when."""

from datetime import datetime

from django.utils import timezone

from jobsite.errors import Invalid
from jobsite.values import storable, times

MAX_REASON = 1_000


def check_reason(reason: str) -> None:
    """Raise Invalid (invalid_reason) unless the text can be kept."""
    if len(reason) > MAX_REASON or not storable.is_storable(reason):
        raise Invalid(f"a reason has at most {MAX_REASON} characters of valid text", code="invalid_reason")


def end_of(until: datetime | str | None) -> datetime | None:
    """The moment until which something is to last, None for no end; Invalid (invalid_time) when it makes no sense."""
    if until is None:
        return None
    try:
        end = times.parse_scheduled_at(until, now=timezone.now())
    except times.TimeError as error:
        raise Invalid(f"until: {error}", code="invalid_time") from error
    if end <= timezone.now():
        raise Invalid("until lies in the past", code="invalid_time")
    return end
