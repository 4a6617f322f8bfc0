"""What the commands share: arguments, the tenant and principal of a call, exit statuses."""

import getpass
import os
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser

from jobsite.errors import Forbidden, NotFound
from jobsite.tenants import principals, scope
from jobsite.tenants.principals import Principal
from jobsite.values import storable


class OneLineParser(CommandParser):
    """A parser that answers bad usage with one line on stderr and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is."""
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(2)


class Command(BaseCommand):
    """A command of jobsite, without Django's options in its help and without system checks before each call."""

    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """A parser without Django's general options. execute() reads them, so they have defaults."""
        parser = OneLineParser(prog=f"jobsite {subcommand}", description=self.help or None)
        parser.set_defaults(
            settings=None,
            pythonpath=None,
            traceback=False,
            no_color=False,
            force_color=False,
            verbosity=1,
            skip_checks=True,
        )
        self.add_arguments(parser)
        return parser

    def finish(self, status: int) -> NoReturn:
        """End the process with this exit status."""
        sys.stdout.flush()
        sys.exit(status)


class GroupCommand(Command):
    """A command with sub-commands. Each is registered with `sub`."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Make the sub-commands' parsers."""
        self._sub = _commands_of(parser)
        self.add_commands()

    def add_commands(self) -> None:
        """Register every sub-command."""
        raise TypeError(f"{type(self).__name__} registers no sub-command")

    @contextmanager
    def group(self, name: str, help: str) -> Iterator[None]:
        """Make the sub-commands that are added in this block `jobsite COMMAND name SUB`."""
        outer = self._sub
        self._sub = _commands_of(outer.add_parser(name, help=help, description=help))
        yield
        self._sub = outer

    def sub(
        self, name: str, run: Callable[..., None], help: str, *, tenant: bool = True, json: bool = False
    ) -> ArgumentParser:
        """Add one sub-command."""
        parser: ArgumentParser = self._sub.add_parser(name, help=help, description=help)
        parser.set_defaults(run=run)
        if tenant:
            add_tenant(parser)
        if json:
            add_json(parser)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command."""
        options["run"](options)


def _commands_of(parser: ArgumentParser) -> "_SubParsersAction[OneLineParser]":
    return parser.add_subparsers(dest="sub", required=True, metavar="COMMAND", parser_class=OneLineParser)


def add_tenant(parser: ArgumentParser) -> None:
    """The option --tenant."""
    parser.add_argument("--tenant", metavar="CODE", help="the tenant (default: JOBSITE_TENANT, else the only tenant)")


def add_json(parser: ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


def principal_of(options: dict[str, Any], *, user: str | None = None) -> Principal:
    """The principal that the command acts as, in its tenant: the local login, or `user` where given.

    Raises NotFound for an unknown tenant or user, Forbidden for a user who is no active member.
    """
    tenant = scope.choose(options.get("tenant"))
    if user is None:
        return principals.local(tenant, login=login())
    found = get_user_model().objects.filter(username=user).first() if user.isprintable() else None
    if found is None:
        raise NotFound(f"no user {storable.mended(user)[:150]}")
    try:
        return principals.of_user(found, tenant, door="cli")
    except NotFound:
        raise Forbidden(f"user {user} is no active member of tenant {tenant.code}") from None


def login() -> str:
    """The login name of the caller on this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container may run as a user without a name
