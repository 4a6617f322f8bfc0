"""jobsite notifications groups, rules and templates: how the command line shows them."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.db.models import Count, Q
from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import principal_of
from jobsite.errors import Invalid
from jobsite.notifications import defaults, operations, wordings
from jobsite.notifications.events import LANGUAGES
from jobsite.notifications.models import Group, Rule, Template
from jobsite.notifications.rendering import PARTS, Wording
from jobsite.programs.models import Program
from jobsite.tenants.principals import Principal
from jobsite.values import durations

_MARK = re.compile(r"^--- (subject|text|html)[ \t]*\n", re.MULTILINE)


def caller(options: dict[str, Any]) -> Principal:
    """The principal of a command: the user of --as, or the local login."""
    return principal_of(options, user=options["user"])


def say(text: str) -> None:
    """Print a sentence without wrapping it, so that commands in it can be copied."""
    printing.console().print(Text(text), soft_wrap=True)


# ---- Groups ---------------------------------------------------------------------------------------------------


def list_groups(options: dict[str, Any]) -> None:
    """Print the groups, with how many rules they have and the programs that name them."""
    rows = Group.objects.filter(tenant=caller(options).tenant, deleted_at__isnull=True).order_by("code")
    items = _groups(rows.annotate(living=Count("rules", filter=Q(rules__deleted_at__isnull=True))))
    if options["json"]:
        printing.print_json(items)
        return
    columns = {"code": "group", "name": "name", "rules": "rules", "programs": "programs that name it"}
    empty = "No groups yet. Make one with: jobsite notifications groups create CODE"
    printing.print_table([one | {"programs": one["programs"] or None} for one in items], columns, empty=empty)


def _groups(rows: Iterable[Any]) -> list[dict[str, Any]]:
    rows = list(rows)
    programs: dict[int | None, list[str]] = {}
    named = Program.objects.filter(notification_group__in=rows, deleted_at__isnull=True).order_by("code")
    for key, code in named.values_list("notification_group_id", "code"):
        programs.setdefault(key, []).append(code)
    return [
        {"code": row.code, "name": row.name, "rules": row.living, "programs": programs.get(row.pk, [])} for row in rows
    ]


# ---- Rules ----------------------------------------------------------------------------------------------------


def rule_item(row: Rule) -> dict[str, Any]:
    """A rule as JSON: its number and its fields."""
    return {"number": row.pk, **operations.rule_as_data(row)}


def list_rules(options: dict[str, Any]) -> None:
    """Print the rules of the tenant, or of one group."""
    items = [rule_item(row) for row in operations.rules_of(caller(options), group=options["group"])]
    if options["json"]:
        printing.print_json(items)
        return
    rows = [item | _columns(item) for item in items]
    columns = {"number": "#", "group": "group", "events": "event", "channel": "by", "to": "to", "only": "only"}
    if any(item["template"] for item in items):
        columns |= {"template": "template"}
    columns |= {"state": "state"}
    group = options["group"] or "GROUP"
    empty = f"No rules yet. Make one with: jobsite notifications rules create {group} --event FAILED --submitter"
    printing.print_table(rows, columns, empty=empty, right=["number"])


def _columns(item: Mapping[str, Any]) -> dict[str, Any]:
    event = Text(f"{item['event']} and recovery" if item["on_recovery"] else item["event"])
    return {"events": event, "to": recipients(item), "only": _conditions(item), "state": _state(item)}


def recipients(item: Mapping[str, Any]) -> str:
    """The recipients of a rule, in words."""
    people = ["the submitter"] if item["to_submitter"] else []
    people += [f"every {role}" for role in item["to_roles"]]
    return ", ".join([*people, *item["to_users"], *item["to_addresses"], *([item["to_url"]] * bool(item["to_url"]))])


def _conditions(item: Mapping[str, Any]) -> str:
    said = [f"after {item['in_a_row']} in a row"] if item["in_a_row"] > 1 else []
    if item["throttle_minutes"]:
        said.append(f"once in {durations.format_duration(60 * item['throttle_minutes'])}")
    return ", ".join(said)


def _state(item: Mapping[str, Any]) -> Text:
    return Text("ACTIVE", style="green") if item["is_active"] else Text("OFF", style="yellow")


def show_rule(options: dict[str, Any]) -> None:
    """Print one rule."""
    item = rule_item(operations.find_rule(caller(options), options["number"]))
    if options["json"]:
        printing.print_json(item)
        return
    heading = Text(f"rule {item['number']} of group {item['group']}  ", style="bold") + _state(item)
    columns = _columns(item)
    facts = {"event": columns["events"], "by": item["channel"], "to": columns["to"], "only": columns["only"]}
    print_facts(heading, facts | {"template": item["template"] or "the event's own"})


def print_facts(heading: Text, facts: Mapping[str, Any]) -> None:
    """Print a heading, and each fact that has a value on a line of its own."""
    out = printing.console()
    out.print(heading)
    for name, value in facts.items():
        if value not in (None, ""):
            out.print(Text.assemble((f"  {name:<12}", "dim"), printing.cell(value)), soft_wrap=True)


# ---- Templates ------------------------------------------------------------------------------------------------


def list_templates(options: dict[str, Any]) -> None:
    """Print the templates, and the languages in which the tenant has changed their texts."""
    items = [template_item(row) for row in operations.templates_of(caller(options))]
    if options["json"]:
        printing.print_json(items)
        return
    rows = [
        {
            "code": one["code"],
            "event": Text(one["event"]),
            "kind": "by every rule of the event" if one["is_default"] else "by rules that name it",
            "changed": one["changed"] or None,
        }
        for one in items
    ]
    columns = {"code": "template", "event": "event", "kind": "used", "changed": "changed in"}
    empty = "No templates yet. Make one with: jobsite notifications templates create CODE --event FAILED"
    printing.print_table(rows, columns, empty=empty)


def template_item(row: Template) -> dict[str, Any]:
    """A template as JSON. `changed` are the languages in which the tenant has texts of its own."""
    changed = sorted(one.language for one in row.translations.all())
    return {"code": row.code, "event": row.event, "is_default": row.is_default, "changed": changed}


def language_of(options: dict[str, Any], principal: Principal) -> str:
    """The language of --language, else the tenant's, else English."""
    return options["language"] or defaults.choose([principal.tenant.language], LANGUAGES)


def show_template(options: dict[str, Any]) -> None:
    """Print the text in use, in the format that `set --file` reads."""
    principal = caller(options)
    row, language = operations.find_template(principal, options["code"]), language_of(options, principal)
    words, item = wordings.in_use(row, language), template_item(row)
    if options["json"]:
        printing.print_json(item | {"language": language} | {part: getattr(words, part) for part in PARTS})
        return
    if printing.console().is_terminal:
        whose = "changed here" if language in item["changed"] else "as it comes with jobsite"
        printing.console().print(Text(f"{row.code} in {language}, {whose}\n", style="dim"))
    sys.stdout.write("".join(f"--- {part}\n{getattr(words, part)}\n" for part in PARTS))


def read_words(name: str) -> Wording:
    """The text of a file with the sections subject, text and html; `-` is standard input. Raises Invalid."""
    try:
        source = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise Invalid(f"cannot read {name}: {error}") from error
    before, *found = _MARK.split(source if source.endswith("\n") else f"{source}\n")
    names = found[::2]
    if before.strip() or len(set(names)) < len(names) or not {"subject", "text"} <= set(names):
        raise Invalid(
            f"{name}: expected each section once, after a line of its own: --- subject, --- text, and optionally "
            "--- html; `templates show` prints this format"
        )
    return Wording(**{part: words.strip() for part, words in zip(names, found[1::2], strict=True)})


def preview_template(options: dict[str, Any]) -> None:
    """Print a template as rendered for a job, or for sample facts."""
    principal = caller(options)
    words = None if options["file"] is None else read_words(options["file"])
    language = language_of(options, principal)
    found = operations.preview(principal, options["code"], language, words=words, job=options["job"])
    if options["json"]:
        printing.print_json({"language": language} | {part: getattr(found, part) for part in PARTS})
    elif options["html"]:
        sys.stdout.write(found.html)
    else:
        print_message(found.subject, found.text)


def print_message(subject: str, text: str) -> None:
    """Print a message as its reader sees it."""
    out = printing.console()
    out.print(Text(subject, style="bold"), soft_wrap=True)
    out.print()
    out.print(Text(text.rstrip()), soft_wrap=True)
