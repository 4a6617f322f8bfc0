"""Print on the command line: tables and color on a terminal, plain text in a pipe, one document with --json."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATUS_STYLES = {
    "PENDING": "yellow",
    "QUEUED": "cyan",
    "RUNNING": "blue",
    "WAITING": "magenta",
    "COMPLETED": "green",
    "FAILED": "red",
    "CANCELED": "bright_black",
    "ACTIVE": "green",
    "STOPPING": "yellow",
    "STOPPED": "bright_black",
    "LOST": "red",
    "INTERRUPTED": "yellow",
    "PAUSED": "yellow",
    "TERMINATED": "red",
    "SUSPENDED": "yellow",
}
PIPE_WIDTH = 200


@cache
def console() -> Console:
    """Standard output. In a pipe, lines are not wrapped to eighty columns."""
    out = Console(highlight=False, emoji=False)
    if not out.is_terminal:
        out = Console(highlight=False, emoji=False, width=PIPE_WIDTH, color_system=None)
    return out


def print_json(value: object) -> None:
    """Print one JSON document and nothing else."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")


def print_table(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str, right: Sequence[str] = ()
) -> None:
    """Print rows as a table. `columns` maps keys to headings, `right` are the keys of right-aligned columns.

    `empty` is printed when there are no rows, and says what to do.
    """
    rows = list(rows)
    out = console()
    if not rows:
        out.print(Text(empty, style="dim"))
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for key, heading in columns.items():
        table.add_column(heading, justify="right" if key in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(key)) for key in columns))
    out.print(table)


def cell(value: object) -> Text:
    """One value as text for people."""
    if isinstance(value, Text):
        return value
    if value is None or value == "":
        return Text("–", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no", style="yellow" if value else "dim")
    if isinstance(value, (list, tuple)):
        return Text(", ".join(str(one) for one in value))
    text = str(value)
    return Text(text, style=STATUS_STYLES.get(text, ""))


def ago(moment: str | None) -> str | None:
    """A moment of the API as the time since or until it: 3 m ago, in 2 h."""
    if moment is None:
        return None
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def span(seconds: float | None) -> str | None:
    """A length of time in at most two units: 250 ms, 1.2 s, 3 m 20 s, 2 h 5 m, 4 d."""
    if seconds is None:
        return None
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest} s" if rest else f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def duration(job: Mapping[str, Any]) -> float | None:
    """The seconds that a job has run so far or in all; None when it never started."""
    if job["started_at"] is None:
        return None
    end = datetime.fromisoformat(job["finished_at"]) if job["finished_at"] else datetime.now(UTC)
    return (end - datetime.fromisoformat(job["started_at"])).total_seconds()
