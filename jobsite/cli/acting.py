"""jobsite jobs cancel, hold, release, retry, expire, acknowledge: what operators do to jobs from the command line."""

import sys
from typing import Any

from jobsite.cli import asking, printing
from jobsite.cli.base import principal_of
from programs import steering


def cancel(options: dict[str, Any]) -> None:
    """Cancel one job."""
    status = steering.cancel(principal_of(options), options["number"], reason=options["reason"])
    _say(f"#{options['number']} " + ("is canceled" if status == "CANCELED" else "is asked to stop"))


def hold(options: dict[str, Any]) -> None:
    """Hold one job."""
    steering.hold(principal_of(options), options["number"], reason=options["reason"], until=options["until"])
    _say(f"#{options['number']} is held")


def release(options: dict[str, Any]) -> None:
    """Release one job."""
    steering.release(principal_of(options), options["number"], reason=options["reason"])
    _say(f"#{options['number']} is released")


def retry(options: dict[str, Any]) -> None:
    """Retry one job: -p edits its parameters, --parameters replaces them."""
    principal = principal_of(options, user=options["user"])
    retried = steering.find_job(principal, options["number"])
    whole, typed = asking.typed_parameters(retried.program.parameters_schema, options)
    edited = None
    if whole is not None or typed:
        edited = (retried.parameters if whole is None else whole) | typed
    job = steering.retry(principal, retried.number, parameters=edited, reason=options["reason"])
    if status := asking.answer(principal, job.number, options):
        sys.exit(status)


def acknowledge(options: dict[str, Any]) -> None:
    """Acknowledge failed jobs."""
    numbers = list(dict.fromkeys(options["numbers"]))
    done = set(steering.acknowledge(principal_of(options), numbers, reason=options["reason"]))
    for number in numbers:
        _say(f"#{number} is acknowledged" if number in done else f"#{number} needs no review; left alone")


def expire(options: dict[str, Any]) -> None:
    """Expire what is stuck."""
    expired = steering.expire_stuck(
        principal_of(options), options["numbers"] or None, policy=options["policy"], reason=options["reason"]
    )
    for one in expired:
        _say(f"#{one.number} was stuck and is {one.status} now")
    untouched = sorted(set(options["numbers"]) - {one.number for one in expired})
    for number in untouched:
        _say(f"#{number} is not stuck; left alone")
    if not expired and not untouched:
        _say("No job is stuck.")


def _say(text: str) -> None:
    printing.console().print(text)
