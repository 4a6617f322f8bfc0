"""jobsite notifications: groups of rules, templates, deliveries and inboxes."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from jobsite.cli import delivery_pages
from jobsite.cli import notification_pages as pages
from jobsite.cli import rule_commands as rules
from jobsite.cli.base import GroupCommand
from jobsite.cli.notification_pages import caller, say
from jobsite.errors import Invalid
from jobsite.notifications import operations
from jobsite.notifications.events import LANGUAGES


class Command(GroupCommand):
    """Entry point."""

    help = "Who is notified of what, with which text, and what became of each message."

    def add_commands(self) -> None:
        """groups, rules, templates, deliveries and inbox, each with its own commands."""
        with self.group("groups", "Groups of rules. A program names its group as notification_group."):
            self._add_groups()
        with self.group("rules", "Who is notified of an event, by which channel."):
            self._add_rules()
        with self.group("templates", "The texts, in each language."):
            self._add_templates()
        with self.group("deliveries", "The messages, and what became of them."):
            self._add_deliveries()
        with self.group("inbox", "The messages of a user."):
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
            "--as", dest="user", required=needs_user, metavar="USER", help="as this user, with this user's permissions"
        )
        return parser

    def _add_groups(self) -> None:
        self._one("list", pages.list_groups, "The groups, and the programs that name them.", json=True)
        create = self._one("create", create_group, "Make a group without rules.", of="CODE")
        create.add_argument("--name", default="", help="what it is for")
        _add_reason(self._one("delete", delete_group, "Delete a group with its rules.", of="CODE"))

    def _add_rules(self) -> None:
        listing = self._one("list", pages.list_rules, "The rules of the tenant.", json=True)
        listing.add_argument("--group", default="", metavar="G", help="only of this group")
        self._one("show", pages.show_rule, "One rule.", of="N", json=True)
        create = self._one("create", rules.create_rule, "Make a rule of a group.", json=True)
        create.add_argument("group", metavar="GROUP")
        rules.add_fields(create, is_new=True)
        change = self._one(
            "change", rules.change_rule, "Change the fields that are given; lists are replaced.", of="N", json=True
        )
        rules.add_fields(change, is_new=False)
        _add_reason(self._one("delete", rules.delete_rule, "Delete a rule; its unsent messages are not sent.", of="N"))
        self._one(
            "test",
            rules.test_rule,
            "Send a message with sample facts to every recipient of the rule.",
            of="N",
            json=True,
        )
        self._one(
            "rotate-secret",
            rules.rotate_secret,
            "Give a webhook a new secret; messages are also signed with the previous one.",
            of="N",
            json=True,
        )

    def _add_templates(self) -> None:
        self._one(
            "list", pages.list_templates, "The templates, and the languages in which you have changed them.", json=True
        )
        show = self._one(
            "show", pages.show_template, "The text in use, in the format that `set` reads.", of="CODE", json=True
        )
        _add_language(show)
        create = self._one("create", create_template, "Make a template that rules can name.", of="CODE")
        create.add_argument("--event", required=True, type=str.upper, metavar="E", help="the event that it is for")
        change = self._one("set", set_words, "Check the text in a file and use it.", of="CODE")
        _add_language(change, is_needed=True)
        change.add_argument(
            "--file", required=True, metavar="FILE", help="sections as `show` prints them; -: standard input"
        )
        restore = self._one("restore", restore_words, "Go back to jobsite's own text for the event.", of="CODE")
        _add_language(restore, is_needed=True)
        _add_reason(self._one("delete", delete_template, "Delete a template of your own.", of="CODE"))
        preview = self._one("preview", pages.preview_template, "Render a template for a job.", of="CODE", json=True)
        _add_language(preview)
        preview.add_argument("--job", type=int, metavar="N", help="for this job (default: sample facts)")
        preview.add_argument("--file", metavar="FILE", help="with the text of this file, without saving it")
        preview.add_argument("--html", action="store_true", help="print the HTML part instead of the text")

    def _add_deliveries(self) -> None:
        listing = self._one("list", delivery_pages.list_deliveries, "The messages, newest first.", json=True)
        listing.add_argument("--job", type=int, metavar="N", help="only of this job")
        listing.add_argument("--status", type=str.upper, metavar="S", help="PENDING, SENT, FAILED or SUPPRESSED")
        _add_limit(listing)
        self._one("show", delivery_pages.show_delivery, "One message, as it was sent.", of="N", json=True)
        _add_reason(
            self._one("send-again", send_again, "Send a message that has ended again, as a new message.", of="N")
        )

    def _add_inbox(self) -> None:
        listing = self._one(
            "list", delivery_pages.list_inbox, "The user's messages, newest first.", json=True, needs_user=True
        )
        _add_limit(listing)
        read = self._one(
            "read",
            delivery_pages.read_inbox,
            "Print messages and mark them read; without N, mark all read.",
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
        help="at most N, up to 200 (default: 50)",
    )


def _add_language(parser: ArgumentParser, *, is_needed: bool = False) -> None:
    default = "" if is_needed else " (default: the tenant's)"
    parser.add_argument(
        "--language", choices=LANGUAGES, required=is_needed, metavar="L", help=", ".join(LANGUAGES) + default
    )


# ---- Groups ---------------------------------------------------------------------------------------------------


def create_group(options: dict[str, Any]) -> None:
    """Make a group, and print how to give it rules."""
    code = options["code"]
    with rules.named():
        operations.create_group(caller(options), code, name=options["name"])
    say(f"group {code} is created; give it rules with: jobsite notifications rules create {code} --event FAILED …")


def delete_group(options: dict[str, Any]) -> None:
    """Delete a group with its rules."""
    operations.delete_group(caller(options), options["code"], reason=options["reason"])
    say(f"group {options['code']} is deleted, with its rules")


# ---- Templates ------------------------------------------------------------------------------------------------


def create_template(options: dict[str, Any]) -> None:
    """Make a template, and print how to change its text."""
    code = options["code"]
    with rules.named():
        operations.create_template(caller(options), code, options["event"])
    say(
        f"template {code} is created with the text of {options['event']}; change it with: jobsite notifications "
        f"templates show {code} > {code}.liquid, and set {code} --language L --file {code}.liquid"
    )


def set_words(options: dict[str, Any]) -> None:
    """Use the text of a file."""
    code, words = options["code"], pages.read_words(options["file"])
    try:
        operations.save_words(caller(options), code, options["language"], words)
    except Invalid as error:
        raise Invalid(f"{options['file']}: {error}", code=error.code) from error
    say(
        f"template {code} has this text in {options['language']} now; see it with: jobsite notifications "
        f"templates preview {code} --language {options['language']}"
    )


def restore_words(options: dict[str, Any]) -> None:
    """Go back to jobsite's own text for the event."""
    code, language = options["code"], options["language"]
    is_restored = operations.restore_words(caller(options), code, language)
    say(
        f"template {code} has jobsite's own text in {language} again"
        if is_restored
        else f"template {code} was not changed in {language}; nothing to restore"
    )


def delete_template(options: dict[str, Any]) -> None:
    """Delete a template of the tenant's own."""
    operations.delete_template(caller(options), options["code"], reason=options["reason"])
    say(f"template {options['code']} is deleted")


# ---- Deliveries -----------------------------------------------------------------------------------------------


def send_again(options: dict[str, Any]) -> None:
    """Send a delivery again."""
    operations.send_again(caller(options), options["number"], reason=options["reason"])
    say(f"delivery {options['number']} is sent again, as a new message")
