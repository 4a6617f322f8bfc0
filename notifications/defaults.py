"""The default wording of every event, in the languages of LANGUAGES.

It stands in templates/notifications/<event>.<language>.liquid, the event in lower case, in three sections. Each begins
with a line of its own and ends at the next one or at the end of the file:

    --- subject
    FAILED: {{ program.name }} (job {{ job.number }})
    --- text
    ...
    --- html
    ...

What many of them have in common is a partial, `_facts.<language>.liquid` or `_link.<language>.liquid`, with the
sections text and html: `{% render 'facts' %}` puts in the one that fits. The templates of tenants may use them too.
"""

from collections.abc import Collection, Iterable

from jobsite.notifications.events import Event
from jobsite.notifications.rendering import Wording
from jobsite.notifications.sections import LANGUAGES, read

__all__ = ["LANGUAGES", "choose", "sample", "wording"]

_ABOUT_SCHEDULE = (Event.SCHEDULE_MISSED, Event.SCHEDULE_RECOVERED)
_ABOUT_PROGRAM = (Event.PROGRAM_TERMINATED, *_ABOUT_SCHEDULE)
_WITH_ERROR = (Event.FAILED, Event.RETRYING)
_NOT_STARTED = (Event.SUBMITTED, Event.LATE)
_ENDED = (Event.COMPLETED, Event.FAILED, Event.CANCELED, Event.RECOVERED)
_STATUS = {
    Event.SUBMITTED: "PENDING",
    Event.LATE: "QUEUED",
    Event.STARTED: "RUNNING",
    Event.STUCK: "FAILED",
    Event.RETRYING: "PENDING",
    Event.RECOVERED: "COMPLETED",
}
_PROGRAM_NAMES = {
    "en": "Recalculate scores",
    "de": "Punkte neu berechnen",
    "fr": "Recalculer les scores",
    "es": "Recalcular puntuaciones",
}
_IN_A_ROW = {Event.RECOVERED: 3, Event.SCHEDULE_RECOVERED: 2, Event.PROGRAM_TERMINATED: 5}


def wording(event: Event, language: str) -> Wording:
    """The default wording of the event; the language is one of LANGUAGES."""
    return Wording(**read(f"{event.lower()}.{language}"))


def choose(wanted: Iterable[str], known: Collection[str]) -> str:
    """The first wanted language that is known, `de-AT` and `de_AT` also as `de`; else `en`."""
    for one in wanted:
        tag = one.strip().replace("_", "-").lower()
        for candidate in (tag, tag.split("-")[0]):
            for name in known:
                if name.replace("_", "-").lower() == candidate:
                    return name
    return "en"


def sample(event: Event, language: str) -> dict[str, object]:
    """Facts as the event would have them, for a preview."""
    return {
        "event": {
            "name": str(event),
            "at": "2026-11-28T12:03:20.000Z",
            "suppressed": 0,
            "in_a_row": _IN_A_ROW.get(event, 1),
        },
        "job": None if event in _ABOUT_PROGRAM else _job(event),
        "program": {"code": "recalc_scores", "name": _PROGRAM_NAMES.get(language, _PROGRAM_NAMES["en"])},
        "schedule": _SCHEDULE if event in _ABOUT_SCHEDULE else None,
        "parameters": {"season": 2026, "region": "eu-west"},
        "result": {"recalculated": 1250} if event in (Event.COMPLETED, Event.RECOVERED) else None,
        "error": _ERROR if event in _WITH_ERROR else None,
        "tenant": {"code": "acme", "name": "Acme Games"},
        "user": {"name": "Alice Meyer", "email": "alice@example.com"},
    }


_SCHEDULE = {"code": "nightly_scores", "at": "2026-11-28T02:00:00.000Z", "url": "https://jobs.example.com/schedules/12"}
_ERROR = {"type": "TimeoutError", "message": "no answer from scores.example.com within 30 s", "step": "fetch"}


def _job(event: Event) -> dict[str, object]:
    has_started, has_ended = event not in _NOT_STARTED, event in _ENDED
    is_canceled = event is Event.CANCELED
    return {
        "number": 4711,
        "status": _STATUS.get(event, str(event)),
        "outcome": {Event.COMPLETED: "WARNING", Event.FAILED: "ERROR"}.get(event, "NORMAL"),
        "url": "https://jobs.example.com/jobs/4711",
        "submitted_by": "alice",
        "trigger": "MANUAL",
        "queue": "default",
        "scheduled_at": "2026-11-28T12:00:00.000Z",
        "started_at": "2026-11-28T12:00:00.000Z" if has_started else None,
        "finished_at": "2026-11-28T12:03:20.000Z" if has_ended else None,
        "duration_seconds": 200 if has_ended else None,
        "attempts": 2 if has_started else 0,
        "losses": 0,
        "due_at": "2026-11-28T12:10:00.000Z" if event is Event.RETRYING else "2026-11-28T12:00:00.000Z",
        "failure_kind": "PERMANENT" if event is Event.FAILED else None,
        "cancel_reason": "wrong season" if is_canceled else "",
        "canceled_by": "bob" if is_canceled else "",
    }
