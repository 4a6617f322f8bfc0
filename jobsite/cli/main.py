"""The console script `jobsite`: the same as `python manage.py`, with one clear line for each failure."""

import os
import sys
from difflib import get_close_matches

UNDEFINED_TABLE = "42P01"
WITHOUT_SERVERS = {
    "bench",
    "down",
    "check",
    "collectstatic",
    "help",
    "--help",
    "-h",
    "version",
    "--version",
}
QUIET = {
    "submit",
    "jobs",
    "locks",
    "queues",
    "workers",
    "programs",
    "tenants",
    "members",
    "notifications",
    "schedules",
    "secrets",
    "doctor",
    "demo",
    "bench",
    "down",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit status: 2 for bad usage, 3 for a refusal."""
    arguments = sys.argv[1:] if argv is None else argv
    # `./manage.py` and the console script may be called from anywhere.
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
    import django
    import psycopg
    from django.core.exceptions import ImproperlyConfigured
    from django.db.utils import OperationalError, ProgrammingError

    from jobsite.embedded import EmbeddedError

    try:
        django.setup()
        return _run(arguments)
    except (ImproperlyConfigured, EmbeddedError) as error:
        return _fail(str(error), 2)
    except (OperationalError, psycopg.OperationalError) as error:
        return _fail(f"the database cannot be used: {error}", 2)
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", None) != UNDEFINED_TABLE:
            raise
        return _fail("the database is not migrated; run: jobsite migrate", 2)
    except BrokenPipeError:
        # The reader has closed the pipe (`jobsite jobs list | head`), so nobody is left to print to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    from django.core.management import execute_from_command_line, get_commands

    from jobsite import boot, logs
    from jobsite.cli import overview
    from jobsite.errors import Refusal

    command = arguments[0] if arguments else "help"
    if command in ("help", "--help", "-h") and len(arguments) < 2:
        overview.show()
        return 0
    if not command.startswith("-") and command not in {*get_commands(), "help", "version"}:
        close = get_close_matches(command, get_commands(), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return _fail(f"no command {command}{hint} (see jobsite --help)", 2)
    if command in QUIET:
        logs.quiet()
    try:
        if command not in WITHOUT_SERVERS and not {"--help", "-h"} & set(arguments):
            boot.prepare()
        execute_from_command_line(["jobsite", *arguments])
    except Refusal as refusal:
        return _fail(str(refusal), refusal.exit_status)
    return 0


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"jobsite: {' '.join(message.split())}\n")
    return status
