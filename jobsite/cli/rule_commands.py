"""jobsite notifications rules: the options of rules, and the commands that make, change and test them."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from jobsite.cli import delivery_pages, printing
from jobsite.cli import notification_pages as pages
from jobsite.errors import Conflict, Invalid
from jobsite.notifications import operations
from jobsite.notifications.events import RULE_EVENTS
from jobsite.notifications.models import Rule
from jobsite.notifications.rules import Wanted
from jobsite.values import durations

OPTIONS = {
    "to_submitter": "--submitter",
    "to_roles": "--role",
    "to_users": "--user",
    "to_addresses": "--address",
    "to_url": "--url",
    "throttle_minutes": "--throttle",
    "in_a_row": "--in-a-row",
    "on_recovery": "--on-recovery",
}
"""The options whose names differ from the names of their fields."""
LISTS = ("to_roles", "to_users", "to_addresses")


def add_fields(parser: ArgumentParser, *, is_new: bool) -> None:
    """The options of a rule; for an existing rule also the options that remove a field's value."""

    def add(group: Any, name: str, nothing: object, help: str, **keys: Any) -> None:
        either = group.add_mutually_exclusive_group()
        either.add_argument(_option(name), dest=name, help=help, **keys)
        if not is_new:
            no = f"--no-{_option(name)[2:]}"
            either.add_argument(no, dest=name, action="store_const", const=nothing, help="remove it")

    flag: dict[str, Any] = {"action": "store_true", "default": None}
    what = parser.add_argument_group("what")
    what.add_argument("--event", required=is_new, type=str.upper, metavar="E", help=", ".join(RULE_EVENTS))
    what.add_argument("--channel", type=str.lower, metavar="C", help="email, webhook or inbox (default: email)")
    add(what, "template", "", "the template (default: the event's)", metavar="T")
    whom = parser.add_argument_group("recipients (--role, --user and --address may be given several times)")
    add(whom, "to_submitter", False, "the user who submitted the job", **flag)
    add(
        whom,
        "to_roles",
        (),
        "all members with this role: VIEWER, OPERATOR or ADMIN",
        action="append",
        type=str.upper,
        metavar="R",
    )
    add(whom, "to_users", (), "this member", action="append", metavar="U")
    add(whom, "to_addresses", (), "this e-mail address", action="append", metavar="A")
    add(whom, "to_url", "", "with --channel webhook: the URL", metavar="URL")
    when = parser.add_argument_group("when")
    add(when, "throttle_minutes", "", "at most one message in this time, per recipient and program", metavar="10m")
    when.add_argument("--in-a-row", type=int, metavar="N", help="only after N failures in a row")
    add(when, "on_recovery", False, "also for the first success after failures", **flag)
    state = when.add_mutually_exclusive_group()
    state.add_argument(
        "--on", dest="is_active", action="store_true", default=None, help="the rule sends messages (default)"
    )
    state.add_argument("--off", dest="is_active", action="store_false", default=None, help="the rule sends nothing")


@contextmanager
def named() -> Iterator[None]:
    """Make refusals inside the block name the options of the command instead of the fields."""
    try:
        yield
    except Invalid as error:
        errors = error.details.get("errors")
        if error.code == "invalid_rule" and isinstance(errors, list):
            raise Invalid("; ".join(f"{_option(one['pointer'][1:])}: {one['message']}" for one in errors)) from error
        name, colon, _rest = str(error).partition(":")
        if colon and name in ("event", "name"):
            raise Invalid(f"--{error}") from error
        raise


def _option(name: str) -> str:
    return OPTIONS.get(name, f"--{name}")


def create_rule(options: dict[str, Any]) -> None:
    """Make a rule, and print the secret of a webhook."""
    with named():
        row, secret = operations.create_rule(pages.caller(options), options["group"], Wanted(**_given(options)))
    _answer(row, "is created", secret, options)


def change_rule(options: dict[str, Any]) -> None:
    """Change the fields that are given."""
    given = _given(options)
    if not given:
        raise Invalid("nothing to change is given; see jobsite notifications rules change --help")
    with named():
        row, secret = operations.change_rule(pages.caller(options), options["number"], given)
    _answer(row, "is changed", secret, options)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    given = {field.name: options[field.name] for field in fields(Wanted) if options[field.name] is not None}
    given |= {name: tuple(given[name]) for name in LISTS if name in given}
    if "throttle_minutes" in given:
        given["throttle_minutes"] = _whole_minutes(given["throttle_minutes"]) if given["throttle_minutes"] else None
    return given


def _whole_minutes(text: str) -> int:
    try:
        seconds = durations.parse_duration(text)
    except durations.DurationError as error:
        raise Invalid(f"--throttle: {error}") from error
    if seconds % 60:
        raise Invalid(f"--throttle: expected whole minutes, got {text}")
    return int(seconds // 60)


def _answer(row: Rule, said: str, secret: str, options: dict[str, Any]) -> None:
    item = pages.rule_item(row)
    if options["json"]:
        printing.print_json(item | ({"secret": secret} if secret else {}))
        return
    off = "" if row.is_active else ", but it is off"
    pages.say(f"rule {row.pk} {said}: {row.event} by {row.channel} to {pages.recipients(item)}{off}")
    if secret:
        pages.say(f"Its messages are signed with this secret, shown only now; give it to the receiver:\n{secret}")


def delete_rule(options: dict[str, Any]) -> None:
    """Delete a rule."""
    operations.delete_rule(pages.caller(options), options["number"], reason=options["reason"])
    pages.say(f"rule {options['number']} is deleted")


def test_rule(options: dict[str, Any]) -> None:
    """Send test messages, and print the recipients."""
    principal, number = pages.caller(options), options["number"]
    try:
        rows = operations.test_rule(principal, number)
    except Conflict as error:
        why = _why_nobody(operations.find_rule(principal, number), options)
        raise Conflict(f"{error}{why}", code=error.code) from error
    items = delivery_pages.delivery_items(rows)
    if options["json"]:
        printing.print_json(items)
        return
    for item in items:
        pages.say(f"delivery {item['number']}: {item['event']} by {item['channel']} to {item['to']}")
    pages.say("A worker of the queue notifications sends them now; see: jobsite notifications deliveries list")


def _why_nobody(row: Rule, options: dict[str, Any]) -> str:
    if not row.is_active:
        return f", because it is off; turn it on with: jobsite notifications rules change {row.pk} --on"
    return "; give --as USER to test it as the submitter" if row.to_submitter and options["user"] is None else ""


def rotate_secret(options: dict[str, Any]) -> None:
    """Give a rule a new secret, and print it; it is not shown again."""
    number = options["number"]
    secret = operations.rotate_secret(pages.caller(options), number)
    if options["json"]:
        printing.print_json({"number": number, "secret": secret})
        return
    pages.say(
        f"The new secret of rule {number}, shown only now; messages are also signed with the previous secret, "
        f"until the next rotation:\n"
        f"{secret}"
    )
