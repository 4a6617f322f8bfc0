"""jobsite jobs list, show and why: how the command line shows jobs."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.text import Text
from rich.tree import Tree

from jobsite.cli import all_jobs, delivery_pages, printing
from jobsite.cli.base import principal_of
from jobsite.programs import operations
from jobsite.programs.inspection import explain, presentation, queries
from jobsite.programs.inspection.queries import JobFilter
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
STEPS = 100
CHILDREN, BRANCHES = 30, 150
RESULT_LENGTH = 200


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
    done = None
    if progress and progress["total"]:
        done = f"{100 * progress['processed'] // progress['total']} %"
    elif progress:
        done = str(progress["processed"])
    return {
        "progress": done,
        "took": printing.span(printing.duration(item)),
        "created": printing.ago(item["created_at"]),
        "outcome": item["outcome"] if item["phase"] == "COMPLETED" else None,
    }


def show_job(options: dict[str, Any]) -> None:
    """Print everything about one job."""
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
    more = [("retried by", ", ".join(retries)), ("notified", delivery_pages.notified_of(principal, job))]
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
    """The children as branches. Of many, those that have not completed come first, and the rest is counted.

    `left` holds how many branches the whole tree may still get.
    """
    shown = children
    if len(children) > CHILDREN:
        shown = sorted(children, key=lambda one: (one["status"] == "COMPLETED", one["number"]))[:CHILDREN]
    shown = shown[: max(0, left[0])]
    left[0] -= len(shown)
    for one in shown:
        _with_branches(tree.add(_branch(one)), one["children"], left)
    if len(shown) < len(children):
        tree.add(Text(f"and {len(children) - len(shown):,} more: --json", style="dim"))
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


def explain_job(options: dict[str, Any]) -> None:
    """Print every reason why a job waits."""
    reasons = explain.why(principal_of(options), options["number"])
    if options["json"]:
        printing.print_json([asdict(reason) for reason in reasons])
        return
    for reason in reasons:
        printing.console().print(Text(f"#{options['number']}: ", style="bold") + Text(reason.message), soft_wrap=True)
