"""jobsite submit: ask for a job, and with --wait see it to its end."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from jobsite.cli import printing, waiting
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_json, add_tenant, principal_of
from jobsite.errors import Invalid
from programs import parameters, presentation, steering, submission
from programs.submission import Options


class Command(BaseCommand):
    """Entry point."""

    help = "Submit a job of a program."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options of INTERFACES."""
        parser.add_argument("program", metavar="PROGRAM", help="the program's code")
        parser.add_argument(
            "-p",
            dest="pairs",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="one parameter, typed by the schema",
        )
        parser.add_argument("--parameters", metavar="JSON|@FILE", help="all parameters as a JSON object")
        parser.add_argument("--at", metavar="TIME", help="when to run it, such as 2027-01-31T08:00:00+01:00")
        parser.add_argument(
            "--priority", type=int, metavar="N", help="-100 to 100; one step is worth a minute of waiting"
        )
        parser.add_argument("--hold", action="store_true", help="keep it from running until it is released")
        parser.add_argument("--notify", action="store_true", help="not supported by this version")
        parser.add_argument("--idempotency-key", metavar="K", help="the same key and request give the same job")
        parser.add_argument("--as", dest="user", metavar="USER", help="submit as this user, with his permissions")
        parser.add_argument("--wait", action="store_true", help="show its progress and end as it ends")
        parser.add_argument("--wait-timeout", type=float, metavar="S", help="wait no longer than this (exit status 5)")
        add_tenant(parser)
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Submit, print the number or the job, wait if asked to."""
        if options["notify"]:
            raise Invalid("--notify is not supported by this version of jobsite")
        principal = principal_of(options, user=options["user"])
        program = submission.find_program(principal, options["program"])
        given = _parameters(program.parameters_schema, options["pairs"], options["parameters"])
        job = submission.submit_as(
            principal,
            program.code,
            given,
            Options(
                scheduled_at=options["at"],
                priority=options["priority"],
                hold=options["hold"],
                idempotency_key=options["idempotency_key"],
            ),
        )
        if not options["wait"]:
            if options["json"]:
                printing.print_json(presentation.jobs([steering.find_job(principal, job.number)])[0])
            else:
                print(job.number)  # noqa: T201 - scripts read the bare number
            return
        self.finish(waiting.wait(principal, job.number, timeout=options["wait_timeout"], as_json=options["json"]))


def _parameters(schema: object, pairs: list[str], text: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if text is not None:
        given = _from_json(text)
    try:
        return given | parameters.from_text(schema, pairs)
    except parameters.ParametersError as error:
        raise Invalid(f"-p: {error}", code="invalid_parameters") from error


def _from_json(text: str) -> dict[str, Any]:
    source = "--parameters"
    if text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read {source}: {error}") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Invalid(f"{source} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Invalid(f'{source} must be a JSON object, such as {{"cohort": "2026"}}')
    return value
