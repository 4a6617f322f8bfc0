"""jobsite notifications: who is told of what, in which words, and what became of it."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from jobsite.cli import delivery_pages
from jobsite.cli import notification_pages as pages
from jobsite.cli import rule_commands as rules
from jobsite.cli.base import GroupCommand
from jobsite.cli.notification_pages import asker, say
from jobsite.errors import Invalid
from jobsite.notifications import operations
from jobsite.notifications.events import LANGUAGES


class Command(GroupCommand):
    """Entry point."""

    help = "Who is told of what, in which words, and what became of it."

    def add_commands(self) -> None:
        """groups, rules, templates, deliveries and inbox, each with its own commands."""
        with self.group("groups", "Rules that programs share: a program names its notification_group."):
            self._add_groups()
        with self.group("rules", "Of one event, who is told by which channel."):
            self._add_rules()
        with self.group("templates", "The words, in each language."):
            self._add_templates()
        with self.group("deliveries", "The messages, and what became of them."):
            self._add_deliveries()
        with self.group("inbox", "What a user was told here."):
            self._add_inbox()

    def _one(
        self,
        name: str,
        run: Callable[..., None],
        what: str,
        *,
        of: str = "",
        json: bool = False,
        needs_user: bool = False,
    ) -> ArgumentParser:
        parser = self.sub(name, run, what, json=json)
        if of:
            parser.add_argument(of.lower() if of == "CODE" else "number", metavar=of, type=str if of == "CODE" else int)
        parser.add_argument(
            "--as", dest="user", required=needs_user, metavar="USER", help="as this user, with his permissions"
        )
        return parser

    def _add_groups(self) -> None:
        self._one("list", pages.list_groups, "The groups, and the programs that tell them.", json=True)
        create = self._one("create", create_group, "Make a group; rules are given to it then.", of="CODE")
        create.add_argument("--name", default="", help="what it is for")
        _add_reason(self._one("delete", delete_group, "Delete a group with its rules.", of="CODE"))

    def _add_rules(self) -> None:
        listing = self._one("list", pages.list_rules, "The rules of the tenant.", json=True)
        listing.add_argument("--group", default="", metavar="G", help="of this group alone")
        self._one("show", pages.show_rule, "One rule.", of="N", json=True)
        create = self._one("create", rules.create_rule, "Make a rule of a group.", json=True)
        create.add_argument("group", metavar="GROUP")
        rules.add_fields(create, is_new=True)
        change = self._one("change", rules.change_rule, "Change what is given; lists are replaced.", of="N", json=True)
        rules.add_fields(change, is_new=False)
        _add_reason(
            self._one("delete", rules.delete_rule, "Delete a rule; what it has not sent yet is not sent.", of="N")
        )
        self._one(
            "test",
            rules.test_rule,
            "Send what it would send, of sample facts, to all it tells.",
            of="N",
            json=True,
        )
        self._one(
            "rotate-secret",
            rules.rotate_secret,
            "Give a webhook a new secret; the last one still signs.",
            of="N",
            json=True,
        )

    def _add_templates(self) -> None:
        self._one("list", pages.list_templates, "The templates, and where you have changed them.", json=True)
        show = self._one("show", pages.show_template, "The words in use, as `set` reads them.", of="CODE", json=True)
        _add_language(show)
        create = self._one("create", create_template, "Make a template for rules to name.", of="CODE")
        create.add_argument("--event", required=True, type=str.upper, metavar="E", help="the event that it tells of")
        change = self._one("set", set_words, "Take the words of a file, once they have been checked.", of="CODE")
        _add_language(change, is_needed=True)
        change.add_argument(
            "--file", required=True, metavar="FILE", help="sections as `show` prints them; - is standard input"
        )
        restore = self._one("restore", restore_words, "Go back to the words that the event comes with.", of="CODE")
        _add_language(restore, is_needed=True)
        _add_reason(self._one("delete", delete_template, "Delete a template of your own.", of="CODE"))
        preview = self._one("preview", pages.preview_template, "What it says of a job.", of="CODE", json=True)
        _add_language(preview)
        preview.add_argument("--job", type=int, metavar="N", help="of this job (default: sample facts)")
        preview.add_argument("--file", metavar="FILE", help="with the words of this file, which change nothing yet")
        preview.add_argument("--html", action="store_true", help="the page that is sent beside the text")

    def _add_deliveries(self) -> None:
        listing = self._one("list", delivery_pages.list_deliveries, "The messages, the newest first.", json=True)
        listing.add_argument("--job", type=int, metavar="N", help="of this job alone")
        listing.add_argument("--status", type=str.upper, metavar="S", help="PENDING, SENT, FAILED or SUPPRESSED")
        _add_limit(listing)
        self._one("show", delivery_pages.show_delivery, "One message, as it was sent.", of="N", json=True)
        _add_reason(self._one("send-again", send_again, "Send one that has ended as a new message.", of="N"))

    def _add_inbox(self) -> None:
        listing = self._one(
            "list", delivery_pages.list_inbox, "His messages, the newest first.", json=True, needs_user=True
        )
        _add_limit(listing)
        read = self._one(
            "read",
            delivery_pages.read_inbox,
            "Print messages and mark them read; without N, all are marked.",
            needs_user=True,
        )
        read.add_argument("numbers", nargs="*", type=int, metavar="N", help="the messages' numbers")


def _add_reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", default="", help="kept in the audit")


def _add_limit(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=int,
        default=delivery_pages.DEFAULT_LIMIT,
        metavar="N",
        help="so many, 200 at most (default: 50)",
    )


def _add_language(parser: ArgumentParser, *, is_needed: bool = False) -> None:
    default = "" if is_needed else " (default: the tenant's)"
    parser.add_argument(
        "--language", choices=LANGUAGES, required=is_needed, metavar="L", help=", ".join(LANGUAGES) + default
    )


# ---- Groups ---------------------------------------------------------------------------------------------------


def create_group(options: dict[str, Any]) -> None:
    """Make one, and say how it comes to use."""
    code = options["code"]
    with rules.named():
        operations.create_group(asker(options), code, name=options["name"])
    say(f"group {code} is created; give it rules with: jobsite notifications rules create {code} --event FAILED …")


def delete_group(options: dict[str, Any]) -> None:
    """Delete one with its rules."""
    operations.delete_group(asker(options), options["code"], reason=options["reason"])
    say(f"group {options['code']} is deleted, with its rules")


# ---- Templates ------------------------------------------------------------------------------------------------


def create_template(options: dict[str, Any]) -> None:
    """Make one, and say how it gets its words."""
    code = options["code"]
    with rules.named():
        operations.create_template(asker(options), code, options["event"])
    say(
        f"template {code} is created and says what {options['event']} says; change it with: jobsite notifications "
        f"templates show {code} > {code}.liquid, and set {code} --language L --file {code}.liquid"
    )


def set_words(options: dict[str, Any]) -> None:
    """Take the words of a file."""
    code, words = options["code"], pages.read_words(options["file"])
    try:
        operations.save_words(asker(options), code, options["language"], words)
    except Invalid as error:
        raise Invalid(f"{options['file']}: {error}", code=error.code) from error
    say(
        f"template {code} has these words in {options['language']} now; see them with: jobsite notifications "
        f"templates preview {code} --language {options['language']}"
    )


def restore_words(options: dict[str, Any]) -> None:
    """Go back to the event's own words."""
    code, language = options["code"], options["language"]
    is_restored = operations.restore_words(asker(options), code, language)
    say(
        f"template {code} has the event's own words in {language} again"
        if is_restored
        else f"template {code} was not changed in {language}; nothing to restore"
    )


def delete_template(options: dict[str, Any]) -> None:
    """Delete one of the tenant's own."""
    operations.delete_template(asker(options), options["code"], reason=options["reason"])
    say(f"template {options['code']} is deleted")


# ---- Deliveries -----------------------------------------------------------------------------------------------


def send_again(options: dict[str, Any]) -> None:
    """Send one once more."""
    operations.send_again(asker(options), options["number"], reason=options["reason"])
    say(f"delivery {options['number']} is sent again, as a new message")
