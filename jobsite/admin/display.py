"""How the admin's pages write statuses, moments, durations, progress and JSON."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.tenants.models import Pausable
from jobsite.values import masking, times
from jobsite.values.durations import format_duration

NOTHING = "–"


def badge(word: str) -> SafeString:
    """A status or the like, coloured by the stylesheet."""
    return format_html('<span class="jobsite-badge jobsite-{}">{}</span>', word.lower(), word)


def moment(value: datetime | None) -> str | SafeString:
    """A moment in UTC to the second; the title has the milliseconds."""
    if value is None:
        return NOTHING
    exact = times.format_time(value)
    return format_html(
        '<time class="jobsite-time" datetime="{}" title="{}">{} {}</time>', exact, exact, exact[:10], exact[11:19]
    )


def pause(row: Pausable) -> str | SafeString:
    """Who paused it, since and until when, and why."""
    if row.paused_at is None:
        return NOTHING
    until = format_html(" until {}", moment(row.paused_until)) if row.paused_until else ""
    reason = f": {row.paused_reason}" if row.paused_reason else ""
    return format_html("by {} since {}{}{}", row.paused_by, moment(row.paused_at), until, reason)


def minute(value: datetime) -> SafeString:
    """A moment in UTC to the minute, without the year if it is this one, for lists with many columns; exact title."""
    exact = times.format_time(value)
    day = exact[5:10] if value.year == timezone.now().year else exact[:10]
    return format_html(
        '<time class="jobsite-time" datetime="{}" title="{}">{} {}</time>', exact, exact, day, exact[11:16]
    )


def moments(field: str, title: str) -> Callable[[Any], str | SafeString]:
    """A column of moments."""

    @admin.display(description=title, ordering=field)
    def column(row: Any) -> str | SafeString:
        return moment(getattr(row, field))

    return column


def duration(seconds: float | None) -> str:
    """A length of time, shorter ones with more digits."""
    if seconds is None:
        return NOTHING
    digits = 3 if seconds < 1 else 1 if seconds < 10 else 0
    return format_duration(round(max(0.0, seconds), digits))


def bar(processed: int, total: int, message: str = "") -> SafeString:
    """A bar with its numbers."""
    return format_html(
        '<span class="jobsite-progress" title="{}"><progress value="{}" max="{}"></progress> {}/{}</span>',
        message,
        min(processed, total),
        total,
        processed,
        total,
    )


def words(text: str) -> SafeString:
    """One of our own sentences, with `commands` between backticks."""
    parts = text.split("`")
    pieces = ((format_html("<code>{}</code>", part) if place % 2 else part,) for place, part in enumerate(parts))
    return format_html_join("", "{}", pieces)


def sentence(text: object) -> str:
    """A refusal or the like, as a sentence."""
    words = str(text)
    return f"{words[:1].upper()}{words[1:]}."


def pretty(value: Any) -> str:
    """JSON for people; secrets stay hidden."""
    return json.dumps(masking.masked(value), indent=2, ensure_ascii=False, default=str)


def code_block(value: Any) -> SafeString:
    """JSON as a block of its own."""
    return format_html('<pre class="jobsite-code">{}</pre>', pretty(value))
