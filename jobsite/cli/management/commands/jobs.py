"""jobsite jobs: look at jobs and steer them."""

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.text import Text
from rich.tree import Tree

from jobsite.cli import acting, all_jobs, delivery_pages, job_options, printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.programs import operations
from jobsite.programs.inspection import explain, presentation, queries
from jobsite.programs.inspection.queries import JobFilter
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import step_name

COLUMNS = {
    "number": "#",
    "program": "program",
    "status": "status",
    "outcome": "outcome",
    "queue": "queue",
    "attempts": "runs",
    "progress": "progress",
    "took": "took",
    "created": "submitted",
    "submitted_by": "by",
}
POLL_SECONDS = 0.3
STEPS = 100
CHILDREN, BRANCHES = 30, 150
RESULT_LENGTH = 200
SEVERITY_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class Command(GroupCommand):
    """Entry point."""

    help = "Look at jobs and steer them."

    def add_commands(self) -> None:
        """The sub-commands of INTERFACES that exist so far."""
        listing = self.sub("list", list_jobs, "Jobs, the newest first.", json=True)
        all_jobs.add_filter(listing)
        listing.add_argument("--limit", type=int, default=queries.DEFAULT_LIMIT, metavar="N")
        listing.add_argument("--cursor", metavar="C", help="next_cursor of the page before")
        self._one("show", show_job, "One job with its attempts, steps and children.", json=True)
        logs = self._one("logs", show_logs, "What a job said.", json=True)
        logs.add_argument("--follow", action="store_true", help="go on until the job ends")
        self._one("why", explain_job, "Why a job is not running, or where it is.", json=True)
        self._add_acts()

    def _add_acts(self) -> None:
        cancel = self._one_or_all("cancel", acting.cancel, "Cancel waiting jobs, ask running ones to stop.")
        # Of a hold, --until is its end.
        hold = self._one_or_all("hold", acting.hold, "Keep waiting jobs from running.", until="--submitted-until")
        hold.add_argument("--until", metavar="TIME", help="release them by themselves then")
        release = self._one_or_all("release", acting.release, "Let held jobs go on.")
        retry = self._one_or_all(
            "retry", acting.retry, "Submit ended jobs again; a single one also with edited parameters."
        )
        job_options.add_parameters(retry)
        job_options.add_asker_and_wait(retry)
        acknowledge = self.sub("acknowledge", acting.acknowledge, "Say that you have seen why jobs failed.")
        acknowledge.add_argument("numbers", nargs="*", type=int, metavar="N", help="the jobs' numbers")
        all_jobs.add_all(acknowledge)
        expire = self.sub("expire", acting.expire, "End jobs that run past their time limit; others are not touched.")
        expire.add_argument(
            "numbers", nargs="*", type=int, metavar="N", help="only these (default: all that are stuck)"
        )
        choice = expire.add_mutually_exclusive_group()
        choice.add_argument("--retry", action="store_const", const="RETRY", dest="policy", default="")
        choice.add_argument("--fail", action="store_const", const="FAIL", dest="policy")
        for parser in (cancel, hold, release, retry, acknowledge, expire):
            parser.add_argument("--reason", default="", help="kept in the audit")

    def _one_or_all(self, name: str, run: Any, help: str, *, until: str = "--until") -> Any:
        parser = self.sub(name, run, help)
        parser.add_argument("number", nargs="?", type=int, metavar="N", help="the job's number")
        all_jobs.add_all(parser, until=until)
        return parser

    def _one(self, name: str, run: Any, help: str, *, json: bool = False) -> Any:
        parser = self.sub(name, run, help, json=json)
        parser.add_argument("number", type=int, metavar="N", help="the job's number")
        return parser


def list_jobs(options: dict[str, Any]) -> None:
    """Print a page of jobs."""
    wanted = all_jobs.filter_of(options)
    page = queries.jobs(principal_of(options), wanted, limit=options["limit"], cursor=options["cursor"])
    items = presentation.jobs(page.items)
    if options["json"]:
        printing.print_json({"items": items, "next_cursor": page.next_cursor})
        return
    rows = [item | _columns(item) for item in items]
    empty = (
        "No such jobs."
        if any((wanted != JobFilter(), options["cursor"]))
        else ("No jobs yet. Submit one with: jobsite submit PROGRAM")
    )
    printing.print_table(rows, COLUMNS, empty=empty, right=["number", "attempts", "took"])
    if page.next_cursor:
        printing.console().print(f"[dim]more: --cursor {page.next_cursor}[/]")


def _columns(item: dict[str, Any]) -> dict[str, Any]:
    progress = item["progress"]
    step_name = None
    if progress and progress["total"]:
        step_name = f"{100 * progress['processed'] // progress['total']} %"
    elif progress:
        step_name = str(progress["processed"])
    return {
        "progress": step_name,
        "took": printing.span(printing.duration(item)),
        "created": printing.ago(item["created_at"]),
        "outcome": item["outcome"] if item["phase"] == "COMPLETED" else None,
    }


def show_job(options: dict[str, Any]) -> None:
    """Print all about one job."""
    principal = principal_of(options)
    job = operations.jobs.find_job(principal, options["number"])
    item = presentation.jobs([job])[0]
    attempts = [presentation.attempt(one) for one in queries.attempts(job)]
    steps = [presentation.step(one, job) for one in queries.steps(job)]
    retries = [f"#{number}" for number in queries.retries(job)]
    children = presentation.children(job.number, queries.descendants(job))
    if options["json"]:
        printing.print_json(item | {"attempts_list": attempts, "steps": steps, "children": children})
        return
    out = printing.console()
    out.print(_headline(item))
    more = [("retried by", ", ".join(retries)), ("told", delivery_pages.told_of(principal, job))]
    for label, value in [*_facts(item), *((label, value) for label, value in more if value)]:
        out.print(Text(f"  {label:<14}", style="dim") + (value if isinstance(value, Text) else Text(str(value))))
    if attempts:
        out.print()
        rows = [one | {"took": _took(one), "said": (one["error"] or {}).get("message")} for one in attempts]
        columns = {"fence": "run", "result": "result", "worker": "worker", "took": "took", "said": "error"}
        printing.print_table(rows, columns, empty="", right=["fence", "took"])
    if steps:
        out.print()
        _print_steps(steps)
    if children:
        out.print()
        out.print(_with_branches(Tree(_counted(children), guide_style="dim"), children, [BRANCHES]))
    trace = next((one["traceback"] for one in reversed(attempts) if one["traceback"]), None)
    if trace and item["status"] == "FAILED":
        out.print()
        out.print(Text(trace.rstrip(), style="dim"))


def _print_steps(steps: list[dict[str, Any]]) -> None:
    rows = [
        one
        | {
            "step": step_name(one["action"], one["name"] or ""),
            "took": _took(one),
            "said": one["error"]["message"] if one["error"] else _short(one["result"]),
        }
        for one in steps[:STEPS]
    ]
    columns = {"step": "step", "status": "status", "tries": "tries", "took": "took", "said": "result"}
    printing.print_table(rows, columns, empty="", right=["tries", "took"])
    if len(steps) > STEPS:
        printing.console().print(f"[dim]and {len(steps) - STEPS} more steps: --json[/]")


def _with_branches(tree: Tree, children: list[dict[str, Any]], left: list[int]) -> Tree:
    """The children as branches; of many those that have not completed come first, and the others are counted.

    `left` holds how many branches the whole tree may still get.
    """
    step_name = children
    if len(children) > CHILDREN:
        step_name = sorted(children, key=lambda one: (one["status"] == "COMPLETED", one["number"]))[:CHILDREN]
    step_name = step_name[: max(0, left[0])]
    left[0] -= len(step_name)
    for one in step_name:
        _with_branches(tree.add(_branch(one)), one["children"], left)
    if len(step_name) < len(children):
        tree.add(Text(f"and {len(children) - len(step_name):,} more: --json", style="dim"))
    return tree


def _branch(child: dict[str, Any]) -> Text:
    text = Text(f"#{child['number']} {child['program']}")
    text.append(f" {child['key']}" if child["key"] else "", style="dim")
    text.append(f"  {child['status']}", style=printing.STATUS_STYLES[child["status"]])
    if child["outcome"] == "WARNING":
        text.append("  WARNING", style="yellow")
    took = printing.span(printing.duration(child))
    text.append(f"  {took}" if took else "", style="dim")
    if child["error"]:
        text.append(f"  {child['error']['message'].splitlines()[0]:.80}", style="red")
    return text


def _counted(children: list[dict[str, Any]]) -> Text:
    text = Text(f"{len(children):,} {'child' if len(children) == 1 else 'children'}:", style="bold")
    for status, count in Counter(one["status"] for one in children).most_common():
        text.append(f"  {count:,} {status}", style=printing.STATUS_STYLES[status])
    return text


def _short(result: object) -> str | None:
    if result is None:
        return None
    text = json.dumps(result, ensure_ascii=False)
    return text if len(text) <= RESULT_LENGTH else f"{text[:RESULT_LENGTH]} …"


def _headline(item: dict[str, Any]) -> Text:
    text = Text(f"#{item['number']} {item['program']}  ", style="bold")
    text.append(item["status"], style=printing.STATUS_STYLES[item["status"]])
    if item["phase"] == "COMPLETED":
        text.append(f"  {item['outcome']}", style="yellow" if item["outcome"] == "WARNING" else "")
    return text


def _facts(item: dict[str, Any]) -> list[tuple[str, Any]]:
    progress = item["progress"]
    cancel, hold = item["cancel"], item["hold"]
    facts = {
        "queue": f"{item['queue']}, priority {item['priority']}",
        "submitted": f"{printing.ago(item['created_at'])} by {item['submitted_by']} ({item['trigger'].lower()})",
        "due": printing.ago(item["due_at"]) if item["phase"] == "PENDING" else None,
        "started": printing.ago(item["started_at"]),
        "finished": printing.ago(item["finished_at"]),
        "took": printing.span(printing.duration(item)),
        "runs": f"{item['attempts']}, {item['losses']} lost" if item["losses"] else item["attempts"] or None,
        "worker": item["worker"],
        "parent": f"#{item['parent']}" if item["parent"] else None,
        "retry of": f"#{item['retry_of']}" if item["retry_of"] else None,
        "review": "needed; jobsite jobs acknowledge" if item["needs_review"] else None,
        "progress": f"{progress['processed']}/{progress['total'] or '?'} {progress['message']}" if progress else None,
        "held": f"{printing.ago(hold['at'])} by {hold['by']}: {hold['reason'] or 'no reason given'}" if hold else None,
        "cancel": f"asked {printing.ago(cancel['at'])} by {cancel['by']}: {cancel['reason'] or 'no reason given'}"
        if cancel
        else None,
        "parameters": json.dumps(item["parameters"], ensure_ascii=False) if item["parameters"] else None,
        "result": json.dumps(item["result"], ensure_ascii=False) if item["result"] is not None else None,
        "error": Text(f"{item['error']['type']}: {item['error']['message']}", style="red") if item["error"] else None,
        "failure": item["failure_kind"],
    }
    return [(label, value) for label, value in facts.items() if value is not None]


def _took(attempt: dict[str, Any]) -> str | None:
    return printing.span(printing.duration({"started_at": attempt["started_at"], "finished_at": attempt["ended_at"]}))


def show_logs(options: dict[str, Any]) -> None:
    """Print a job's log, with --follow until the job has ended."""
    principal, number = principal_of(options), options["number"]
    job = operations.jobs.find_job(principal, number)
    if not options["follow"]:
        entries = _entries(job, 0)
        if options["json"]:
            printing.print_json(entries)
        elif not entries:
            printing.console().print("[dim]This job has said nothing.[/]")
        for entry in [] if options["json"] else entries:
            _print_entry(entry)
        return
    after = 0
    while True:
        is_over = operations.jobs.find_job(principal, number).is_terminal
        for entry in _entries(job, after):
            after = entry["sequence"]
            if options["json"]:
                sys.stdout.write(json.dumps(entry, ensure_ascii=False) + "\n")
            else:
                _print_entry(entry)
        sys.stdout.flush()
        if is_over:
            return
        time.sleep(POLL_SECONDS)


def _entries(job: Job, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        batch = [presentation.log_entry(row) for row in queries.log_entries(job, after=after)]
        if not batch:
            return found
        found += batch
        after = batch[-1]["sequence"]


def _print_entry(entry: dict[str, Any]) -> None:
    text = Text(entry["at"][11:23] + " ", style="dim")
    if entry["stream"] == "log":
        text.append(f"{entry['severity']:<8}", style=SEVERITY_STYLES.get(entry["severity"], ""))
    else:
        text.append(f"{entry['stream']:<8}", style="dim")
    text.append(entry["message"], style=SEVERITY_STYLES.get(entry["severity"], "") if entry["stream"] == "log" else "")
    printing.console().print(text, soft_wrap=True)


def explain_job(options: dict[str, Any]) -> None:
    """Print every reason for which a job waits."""
    reasons = explain.why(principal_of(options), options["number"])
    if options["json"]:
        printing.print_json([asdict(reason) for reason in reasons])
        return
    for reason in reasons:
        printing.console().print(Text(f"#{options['number']}: ", style="bold") + Text(reason.message), soft_wrap=True)
