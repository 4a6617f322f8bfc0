"""What can happen that somebody may be notified of, by the names that rules and templates give it."""

from enum import StrEnum


class Event(StrEnum):
    """One thing that happened to a job, a program or a schedule; each has a template of its name."""

    SUBMITTED = "SUBMITTED"
    STARTED = "STARTED"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    LATE = "LATE"
    STUCK = "STUCK"
    RECOVERED = "RECOVERED"
    PROGRAM_TERMINATED = "PROGRAM_TERMINATED"
    SCHEDULE_MISSED = "SCHEDULE_MISSED"
    SCHEDULE_RECOVERED = "SCHEDULE_RECOVERED"


LANGUAGES = ("en", "de", "fr", "es")
"""The languages that there are words in."""

ENDED_NORMAL = "COMPLETED+NORMAL"
ENDED_WARNING = "COMPLETED+WARNING"
ENDED_ERROR = "COMPLETED+ERROR"
"""The phase COMPLETED with an outcome, as a rule names it; a canceled job has none of them."""

RULE_EVENTS = (
    *(str(event) for event in Event if event is not Event.RECOVERED),
    *(ENDED_NORMAL, ENDED_WARNING, ENDED_ERROR),
)
"""What a rule may wait for. RECOVERED is sent by the rules for failures that ask for it."""

RECOVERS = {"FAILED": Event.RECOVERED, ENDED_ERROR: Event.RECOVERED, "SCHEDULE_MISSED": Event.SCHEDULE_RECOVERED}
"""The events whose rules may ask for the recovery as well, and the event that is sent then."""

COUNTED_IN_A_ROW = ("FAILED", ENDED_ERROR)
"""The events of which a rule may wait for several in a row."""

ALERT_ADDRESS = "SYSTEM_JOBS_ALERT_EMAIL"
"""Stands for the operator's address, which is a setting, in the deliveries of system jobs."""


def template_event(rule_event: str) -> str:
    """The event whose template fits what a rule waits for; for a phase with an outcome, that of the status."""
    return {ENDED_NORMAL: "COMPLETED", ENDED_WARNING: "COMPLETED", ENDED_ERROR: "FAILED"}.get(rule_event, rule_event)
