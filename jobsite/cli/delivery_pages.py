"""jobsite notifications deliveries and inbox: what became of messages, and which messages a user has."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from jobsite.cli import notification_pages as pages
from jobsite.cli import printing
from jobsite.errors import Invalid, NotFound
from jobsite.notifications import operations
from jobsite.notifications.models import Delivery
from jobsite.notifications.models.delivery import Status
from jobsite.programs.inspection import presentation
from jobsite.programs.models import Job, Program, Schedule
from jobsite.programs.operations import jobs as job_operations
from jobsite.tenants.principals import Principal

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
SHORT = 60
SHOWN = 4
STYLES = {"SENT": "green", "SUPPRESSED": "bright_black"}


# ---- Deliveries -----------------------------------------------------------------------------------------------


def delivery_items(rows: Iterable[Delivery]) -> list[dict[str, Any]]:
    """Deliveries as JSON. Their programs and schedules are looked up in one query each."""
    rows = list(rows)
    programs = dict(Program.objects.filter(pk__in={row.program_id for row in rows}).values_list("pk", "code"))
    schedules = dict(Schedule.objects.filter(pk__in={row.schedule_id for row in rows}).values_list("pk", "code"))
    return [
        {
            "number": row.pk,
            "event": row.event,
            "job": row.job_number,
            "program": programs.get(row.program_id or 0),
            "schedule": schedules.get(row.schedule_id or 0),
            "is_test": "test" in row.details,
            "rule": row.rule_id,
            "group": row.rule.group.code if row.rule else None,
            "channel": row.channel,
            "to": row.recipient,
            "status": row.status,
            "reason": row.reason,
            "attempts": row.attempts,
            "happened_at": presentation.moment(row.happened_at),
            "due_at": presentation.moment(row.due_at) if row.status == Status.PENDING else None,
            "finished_at": presentation.moment(row.finished_at),
            "message_id": f"msg_{row.identity}",
            "language": row.language or None,
            "subject": row.subject or None,
            "text": row.text or None,
            "read_at": presentation.moment(row.read_at),
        }
        for row in rows
    ]


def notified_of(principal: Principal, job: Job) -> str:
    """The newest deliveries of a job in a few words; empty where there are none."""
    rows = list(operations.deliveries_of(principal, job=job.number)[: SHOWN + 1])
    words = [
        f"{row.recipient} of {row.event} by {row.channel}" + ("" if row.status == Status.SENT else f" ({row.status})")
        for row in reversed(rows[:SHOWN])
    ]
    if len(rows) > SHOWN:
        words.append(f"…; jobsite notifications deliveries list --job {job.number}")
    return ", ".join(words)


def check_limit(limit: int) -> int:
    """The limit. Raises Invalid where it is out of range."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(f"--limit: expected 1 to {MAX_LIMIT}, got {limit}")
    return limit


def list_deliveries(options: dict[str, Any]) -> None:
    """Print the newest deliveries, of the tenant or of one job."""
    principal, limit = pages.caller(options), check_limit(options["limit"])
    if options["job"] is not None:
        job_operations.find_job(principal, options["job"])
    rows = operations.deliveries_of(principal, job=options["job"])
    status = options["status"]
    if status is not None and status not in list(Status):
        raise Invalid(f"--status: expected one of {', '.join(Status)}, got {status!r:.80}")
    items = delivery_items((rows.filter(status=status) if status else rows)[:limit])
    if options["json"]:
        printing.print_json(items)
        return
    empty = "No deliveries yet. Rules make them; try one with: jobsite notifications rules test N"
    if status or options["job"] is not None:
        empty = "No such deliveries."
    print_deliveries(items, empty=empty)


def print_deliveries(items: Iterable[dict[str, Any]], *, empty: str = "") -> None:
    """Deliveries as a table."""
    rows = [
        item
        | {
            "event": Text(item["event"]),
            "at": printing.ago(item["happened_at"]),
            "of": _source(item),
            "state": _status(item),
            "why": _short(item["reason"].removeprefix(f"{item['to']}: ")),
        }
        for item in items
    ]
    columns = {"number": "#", "at": "happened", "event": "event", "of": "of", "channel": "by", "to": "to",
               "state": "status", "why": ""}  # fmt: skip
    printing.print_table(rows, columns, empty=empty, right=["number"])


def _short(reason: str) -> str:
    return reason if len(reason) <= SHORT else f"{reason[:SHORT].rstrip()}…"


def _source(item: Mapping[str, Any]) -> str:
    if item["is_test"]:
        return "a test"
    if item["schedule"]:
        return f"schedule {item['schedule']}"
    return " ".join(one for one in (f"#{item['job']}" if item["job"] else "", item["program"] or "") if one)


def _status(item: Mapping[str, Any]) -> Text:
    return Text(item["status"], style=STYLES.get(item["status"], printing.STATUS_STYLES.get(item["status"], "")))


def show_delivery(options: dict[str, Any]) -> None:
    """Print one delivery, with the message as it was sent."""
    [item] = delivery_items([operations.find_delivery(pages.caller(options), options["number"])])
    if options["json"]:
        printing.print_json(item)
        return
    heading = Text(f"delivery {item['number']}  ", style="bold") + _status(item)
    due = printing.ago(item["due_at"])
    facts = {
        "event": Text(item["event"]),
        "of": _source(item),
        "by": item["channel"],
        "to": item["to"],
        "rule": f"{item['rule']} of group {item['group']}" if item["rule"] else "none: requested with the job",
        "answer" if item["status"] == Status.SENT else "reason": item["reason"],
        "tries": item["attempts"],
        "next try": due if due is None or due.startswith("in ") else "due now",
        "happened": printing.ago(item["happened_at"]),
        "ended": printing.ago(item["finished_at"]),
        "read": printing.ago(item["read_at"]),
        "message id": item["message_id"],
        "language": item["language"],
    }
    pages.print_facts(heading, facts)
    if item["subject"]:
        printing.console().print()
        pages.print_message(item["subject"], item["text"] or "")


# ---- The inbox ------------------------------------------------------------------------------------------------


def list_inbox(options: dict[str, Any]) -> None:
    """Print the newest messages of a user's inbox, and how many are unread."""
    principal, limit = pages.caller(options), check_limit(options["limit"])
    items, unread = delivery_items(operations.inbox_of(principal)[:limit]), operations.unread(principal)
    if options["json"]:
        printing.print_json({"unread": unread, "items": items})
        return
    rows = [
        {
            "number": item["number"],
            "new": Text("" if item["read_at"] else "new", style="cyan"),
            "at": printing.ago(item["happened_at"]),
            "subject": Text(item["subject"] or "", style="" if item["read_at"] else "bold"),
        }
        for item in items
    ]
    empty = f"No messages for {principal.name}. Rules with --channel inbox send them."
    columns = {"number": "#", "new": "", "at": "happened", "subject": "subject"}
    printing.print_table(rows, columns, empty=empty, right=["number"])
    if items:
        more = " or more" if unread == operations.MAX_READ else ""
        hint = f"; read one with: jobsite notifications inbox read N --as {principal.name}" if unread else ""
        printing.console().print(Text(f"\n{unread:,}{more} unread{hint}", style="dim"), soft_wrap=True)


def print_messages(rows: Iterable[Delivery]) -> None:
    """Print messages of an inbox in full, one after the other."""
    for place, item in enumerate(delivery_items(rows)):
        if place:
            printing.console().print()
        printing.console().print(Text(f"#{item['number']}  {printing.ago(item['happened_at'])}", style="dim"))
        pages.print_message(item["subject"] or "", item["text"] or "")


def read_inbox(options: dict[str, Any]) -> None:
    """Print messages and mark them read; without numbers, mark all read and print none."""
    principal, numbers = pages.caller(options), list(dict.fromkeys(options["numbers"]))
    if not numbers:
        count = operations.mark_read(principal)
        pages.say(f"{count:,} {'message is' if count == 1 else 'messages are'} marked read")
        return
    inbox = operations.inbox_of(principal)
    found = {row.pk: row for row in inbox.filter(pk__in=numbers).select_related("rule__group", "user")}
    if missing := [number for number in numbers if number not in found]:
        raise NotFound(f"no message {missing[0]} in the inbox of {principal.name}")
    print_messages(found[number] for number in numbers)
    operations.mark_read(principal, numbers)
