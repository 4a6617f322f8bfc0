"""jobsite jobs cancel, hold, release, retry, expire, acknowledge: the acts of operators on jobs."""

import sys
from typing import Any

from jobsite.cli import all_jobs, job_options, printing
from jobsite.cli.base import principal_of
from jobsite.errors import Invalid
from jobsite.programs import operations
from jobsite.tenants.principals import Principal


def cancel(options: dict[str, Any]) -> None:
    """Cancel one job, or all that match."""
    principal = principal_of(options)
    if not _all("cancel", principal, options):
        status = operations.jobs.cancel(principal, options["number"], reason=options["reason"])
        _say(f"#{options['number']} " + ("is canceled" if status == "CANCELED" else "is asked to stop"))


def hold(options: dict[str, Any]) -> None:
    """Hold one job, or all that match."""
    principal = principal_of(options)
    if not _all("hold", principal, options, until=options["until"]):
        operations.jobs.hold(principal, options["number"], reason=options["reason"], until=options["until"])
        _say(f"#{options['number']} is held")


def release(options: dict[str, Any]) -> None:
    """Release one job, or all that match."""
    principal = principal_of(options)
    if not _all("release", principal, options):
        operations.jobs.release(principal, options["number"], reason=options["reason"])
        _say(f"#{options['number']} is released")


def retry(options: dict[str, Any]) -> None:
    """Retry one job (-p edits its parameters, --parameters replaces them), or all that match with their parameters."""
    principal = principal_of(options, user=options["user"])
    if options["all"]:
        for_one = {"pairs": "-p", "parameters": "--parameters", "wait": "--wait", "json": "--json"}
        given = next((option for name, option in for_one.items() if options[name]), None)
        if given is not None:
            raise Invalid(f"{given} goes with one job, not with --all")
    if _all("retry", principal, options):
        return
    retried = operations.jobs.find_job(principal, options["number"])
    whole, typed = job_options.typed_parameters(retried.program.parameters_schema, options)
    edited = None
    if whole is not None or typed:
        edited = (retried.parameters if whole is None else whole) | typed
    job = operations.jobs.retry(principal, retried.number, parameters=edited, reason=options["reason"])
    if status := job_options.answer(principal, job.number, options):
        sys.exit(status)


def acknowledge(options: dict[str, Any]) -> None:
    """Acknowledge failed jobs, by their numbers or all that match."""
    principal = principal_of(options)
    if _all("acknowledge", principal, options):
        return
    numbers = list(dict.fromkeys(options["numbers"]))
    done = set(operations.jobs.acknowledge(principal, numbers, reason=options["reason"]))
    for number in numbers:
        _say(f"#{number} is acknowledged" if number in done else f"#{number} needs no review; left alone")


def _all(name: str, principal: Principal, options: dict[str, Any], *, until: str | None = None) -> bool:
    """Do the act to all jobs that match, if --all is given. Returns whether it is."""
    numbers = options["numbers"] if "numbers" in options else [one for one in [options["number"]] if one is not None]
    if not all_jobs.is_meant(options, numbers):
        return False
    if status := all_jobs.act(name, principal, options, until=until):
        sys.exit(status)
    return True


def expire(options: dict[str, Any]) -> None:
    """Expire stuck jobs: those with these numbers, or all."""
    expired = operations.jobs.expire_stuck(
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
