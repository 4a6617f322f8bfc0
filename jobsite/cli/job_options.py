"""What the commands that make jobs share: parameters, confirmation, and the answer as number, JSON or outcome."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from jobsite.cli import printing, waiting
from jobsite.cli.base import add_json
from jobsite.errors import Invalid
from jobsite.programs import operations, parameters
from jobsite.programs.inspection import presentation
from jobsite.tenants.principals import Principal


def add_parameters(parser: ArgumentParser) -> None:
    """The options -p and --parameters."""
    parser.add_argument(
        "-p", dest="pairs", action="append", default=[], metavar="KEY=VALUE", help="one parameter, typed by the schema"
    )
    parser.add_argument("--parameters", metavar="JSON|@FILE", help="all parameters as a JSON object")


def add_asker_and_wait(parser: ArgumentParser) -> None:
    """The options --as, --wait, --wait-timeout and --json."""
    parser.add_argument("--as", dest="user", metavar="USER", help="as this user, with this user's permissions")
    parser.add_argument("--wait", action="store_true", help="show its progress; the exit status says how it ended")
    parser.add_argument("--wait-timeout", type=float, metavar="S", help="wait no longer than this (exit status 5)")
    add_json(parser)


def typed_parameters(schema: object, options: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The object of --parameters (None without it), and the values of every -p. Raises Invalid."""
    whole = None if options["parameters"] is None else _from_json(options["parameters"])
    try:
        return whole, parameters.from_text(schema, options["pairs"])
    except parameters.ParametersError as error:
        raise Invalid(f"-p: {error}", code="invalid_parameters") from error


def answer(principal: Principal, number: int, options: dict[str, Any]) -> int:
    """Print the number of a new job, or the job with --json; with --wait follow it to its end.

    Returns the exit status.
    """
    if options["wait"]:
        return waiting.wait(principal, number, timeout=options["wait_timeout"], as_json=options["json"])
    if options["json"]:
        printing.print_json(presentation.jobs([operations.jobs.find_job(principal, number)])[0])
    else:
        print(number)  # noqa: T201 - scripts read the bare number
    return 0


def is_confirmed(question: str) -> bool:
    """Ask the question on the terminal. Returns whether the answer is yes; raises Invalid without a terminal."""
    if not sys.stdin.isatty():
        raise Invalid("there is no terminal to confirm this; add --yes to do it without a question")
    try:
        answer = printing.console().input(f"{question} [y/N] ", markup=False)
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


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
