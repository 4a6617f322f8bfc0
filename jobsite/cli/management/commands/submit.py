"""jobsite submit: submit a job, and with --wait follow it to its end."""

from argparse import ArgumentParser
from typing import Any

from jobsite.cli import job_options
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_tenant, principal_of
from jobsite.errors import Invalid
from jobsite.programs import submission
from jobsite.programs.submission import Options, preparation


class Command(BaseCommand):
    """Entry point."""

    help = "Submit a job of a program."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options of a job."""
        parser.add_argument("program", metavar="PROGRAM", help="the program's code")
        job_options.add_parameters(parser)
        parser.add_argument("--at", metavar="TIME", help="when to run it, such as 2027-01-31T08:00:00+01:00")
        parser.add_argument(
            "--priority", type=int, metavar="N", help="-100 to 100; one more is worth a minute of waiting"
        )
        parser.add_argument("--hold", action="store_true", help="do not run it until it is released")
        parser.add_argument("--notify", action="store_true", help="notify the submitter when it ends")
        parser.add_argument("--idempotency-key", metavar="K", help="the same key and request give the same job")
        job_options.add_asker_and_wait(parser)
        add_tenant(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Submit, print the number or the job, wait if asked to."""
        if options["notify"] and options["user"] is None:
            raise Invalid("--notify sends a message to the submitter, who must be a user: give --as USER")
        principal = principal_of(options, user=options["user"])
        program = preparation.find_program(principal, options["program"])
        whole, typed = job_options.typed_parameters(program.parameters_schema, options)
        job = submission.submit_as(
            principal,
            program.code,
            (whole or {}) | typed,
            Options(
                scheduled_at=options["at"],
                priority=options["priority"],
                hold=options["hold"],
                notify=options["notify"],
                idempotency_key=options["idempotency_key"],
            ),
        )
        if status := job_options.answer(principal, job.number, options):
            self.finish(status)
