"""jobsite programs: load programs from a file, show, pause and terminate them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.errors import Invalid
from jobsite.programs import definitions
from jobsite.programs.definitions import registration
from jobsite.programs.models import Action, Program
from jobsite.programs.operations import pausing
from jobsite.programs.submission import preparation
from jobsite.values import masking
from jobsite.values.durations import format_duration

COLUMNS = {
    "code": "program",
    "name": "name",
    "status": "status",
    "queue": "queue",
    "priority": "priority",
    "timeout": "timeout",
    "overlap": "overlap",
    "actions": "actions",
}


ACTS = (
    ("pause", pausing.pause_program, "Pause a program: its jobs wait.", "is paused; its jobs wait"),
    ("resume", pausing.resume_program, "Resume a paused program.", "goes on"),
    (
        "terminate",
        pausing.terminate_program,
        "Stop the jobs of a program's schedules. Jobs that people submit still run.",
        "is terminated; the waiting jobs of its schedules are canceled",
    ),
    (
        "reactivate",
        pausing.reactivate_program,
        "Let the schedules of a terminated program run again, and reset its consecutive failures.",
        "is active again",
    ),
)


class Command(GroupCommand):
    """Entry point."""

    help = "The programs of a tenant."

    def add_commands(self) -> None:
        """load, list, show; pause, resume, terminate and reactivate."""
        load = self.sub(
            "load", load_file, "Create or change programs from a TOML file; loading it again changes nothing."
        )
        load.add_argument("file", metavar="FILE")
        self.sub("list", list_programs, "The programs of the tenant.", json=True)
        self.sub("show", show_program, "One program with its schema and actions.", json=True).add_argument(
            "code", metavar="CODE"
        )
        for name, act, what, said in ACTS:
            parser = self.sub(name, partial(steer, act, said), what)
            parser.add_argument("code", metavar="CODE")
            parser.add_argument("--reason", default="")
            if name == "pause":
                parser.add_argument("--until", metavar="TIME", help="resume by itself at this time")


def load_file(options: dict[str, Any]) -> None:
    """Load a program file."""
    path = Path(options["file"])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"cannot read {path}: {error}") from error
    try:
        found = definitions.parse(text, source=str(path), queues=settings.JOBSITE_QUEUES)
    except definitions.DefinitionError as error:
        raise Invalid(str(error)) from error
    for loaded in registration.load(principal_of(options), found):
        printing.console().print(f"{loaded.code} is {loaded.change}")


def list_programs(options: dict[str, Any]) -> None:
    """Print the programs."""
    principal = principal_of(options)
    rows = Program.objects.filter(tenant=principal.tenant, deleted_at__isnull=True)
    items = [
        _shape(row, principal.language) for row in rows.select_related("queue", "tenant").prefetch_related("actions")
    ]
    if options["json"]:
        printing.print_json(items)
        return
    shown = [
        item | {"timeout": format_duration(item["timeout"]), "actions": [one["kind"] for one in item["actions"]]}
        for item in items
    ]
    empty = "No programs yet. Load some with: jobsite programs load FILE"
    printing.print_table(shown, COLUMNS, empty=empty, right=["priority"])


def show_program(options: dict[str, Any]) -> None:
    """Print one program."""
    principal = principal_of(options)
    item = _shape(preparation.find_program(principal, options["code"]), principal.language)
    if options["json"]:
        printing.print_json(item)
        return
    out = printing.console()
    out.print(Text(f"{item['code']}  {item['name']}", style="bold"))
    for key, value in item.items():
        if key in ("code", "name", "parameters", "actions", "callback") or value in (None, "", []):
            continue
        shown = format_duration(value) if key in ("timeout", "cancel_grace") else value
        out.print(Text(f"  {key.replace('_', ' '):<28}", style="dim") + printing.cell(shown))
    out.print(Text("  parameters", style="dim"))
    out.print(Text(json.dumps(item["parameters"], indent=2, ensure_ascii=False)))
    places = [(f"action {position}", action) for position, action in enumerate(item["actions"], start=1)]
    for place, action in [*places, *([("callback", item["callback"])] if item["callback"] else [])]:
        out.print(
            Text(f"  {place}  ", style="dim")
            + Text(f"{action['kind']} {json.dumps(action['configuration'], ensure_ascii=False)}")
        )


def _shape(row: Program, language: str) -> dict[str, Any]:
    actions = row.actions.all()
    return {
        "code": row.code,
        "name": row.name_in(language),
        "description": row.description,
        "status": row.status,
        "queue": row.queue.name,
        "priority": row.priority,
        "timeout": row.timeout_seconds,
        "max_attempts": row.max_attempts,
        "retry_on_timeout": row.retry_on_timeout,
        "overlap": row.overlap_policy,
        "overlap_keys": row.overlap_keys,
        "max_worker_losses": row.max_worker_losses,
        "on_worker_lost": row.on_worker_lost,
        "cancel_grace": row.cancel_grace_seconds,
        "on_child_failure": row.on_child_failure,
        "cancel_children_on_failure": row.cancel_children_on_failure,
        "max_consecutive_failures": row.max_consecutive_failures,
        "consecutive_failures": row.consecutive_failures,
        "mean_seconds": row.mean_seconds,
        "parameters": row.parameters_schema,
        "actions": [_action(one) for one in actions if not one.is_callback],
        "callback": next((_action(one) for one in actions if one.is_callback), None),
    }


def _action(row: Action) -> dict[str, Any]:
    return {"kind": row.kind, "name": row.name, "configuration": masking.masked(row.configuration)}


def steer(act: Callable[..., Program], said: str, options: dict[str, Any]) -> None:
    """Pause, resume, terminate or reactivate one program."""
    given = {name: options[name] for name in ("reason", "until") if options.get(name) is not None}
    program = act(principal_of(options), options["code"], **given)
    printing.console().print(f"{program.code} {said}")
