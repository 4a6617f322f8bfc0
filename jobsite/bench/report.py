"""Show the outcome: the aims first, then all contenders, the costs of a job, and the limits."""

import os
import platform
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from jobsite.bench import contenders, limits
from jobsite.bench.aims import AIMS, Figure, Key, Verdict, judge
from jobsite.bench.run import Outcome

LIMIT_TITLES = {name: title for name, title, *_ in limits.LIMITS}
# The titles of the peers in the table of aims, which has room for short ones only.
TITLES = {contender.name: contender.title for contender in contenders.ALL} | {
    "fetch-100": "fetch 100, complete 100",
    "copy": "COPY",
}
PACKAGES = ("jobsite", "Django", "celery", "psycopg", "redis")
NOTHING = "–"


def tables(outcome: Outcome) -> list[tuple[str, Table]]:
    """The tables for people, with their titles. None is wider than a hundred columns."""
    made = {
        "Compared with the peers, medians": _aims(judge(AIMS, outcome.results)),
        "All contenders: rates per second, pick-up in ms from submission to start, MB per worker": _contenders(outcome),
        "Costs of a job: submitted, drained from a backlog, or both at once": _costs(outcome),
        "Limits of PostgreSQL with a table like that of jobs": _limits(outcome),
    }
    return [(title, table) for title, table in made.items() if table.row_count]


def machine() -> str:
    """The machine and the versions that the figures are valid for, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    system = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return f"{system}, Python {platform.python_version()}, {versions}"


def document(outcome: Outcome) -> dict[str, Any]:
    """The outcome as one JSON document."""
    return {
        "machine": machine(),
        "failures": outcome.failures,
        "aims": [
            {
                "figure": verdict.aim.label,
                "jobsite": verdict.ours,
                "peer": _who(verdict),
                "peer_value": verdict.peer,
                "ratio": verdict.ratio,
                "aim": verdict.aim.factor,
                "at_most": verdict.aim.is_less_better,
                "reached": verdict.is_reached,
            }
            for verdict in judge(AIMS, outcome.results)
        ],
        "measured": [
            {"who": who, "figure": str(figure), "median": median(values), "rounds": values}
            for (who, figure), values in outcome.results.items()
        ],
        "costs": [
            {
                "who": who,
                "figure": str(figure),
                "commits": cost.commits,
                "round_trips": cost.round_trips,
                "messages": cost.messages,
            }
            for (who, figure), cost in outcome.costs.items()
        ],
    }


def number(value: float | None) -> str:
    """A figure with three significant digits, or as an integer from 100 on."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(*headings: str) -> Table:
    """A table of these columns. Those whose heading ends with a space hold numbers and are aligned to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading.strip(), justify="right" if heading.endswith(" ") else "left")
    return table


def _aims(verdicts: list[Verdict]) -> Table:
    table = _table("figure", "jobsite ", "peer", " ", "ratio ", "aim ", "")
    before = ""
    for verdict in verdicts:
        aim = verdict.aim
        label, before = ("" if aim.label == before else aim.label), aim.label
        sign = "≤" if aim.is_less_better else "≥"
        table.add_row(
            label,
            number(verdict.ours) if label else "",
            _who(verdict),
            number(verdict.peer) if aim.peer else "",
            number(verdict.ratio) if aim.peer else "",
            "" if aim.factor is None else f"{sign} {aim.factor:,g}",
            {None: Text(""), True: Text("ok", style="green"), False: Text("missed", style="red")}[verdict.is_reached],
        )
    return table


def _who(verdict: Verdict) -> str:
    if verdict.aim.peer is None:
        return ""
    who, figure = verdict.aim.peer
    return f"its own {figure.split()[-1]}" if who == verdict.aim.ours[0] else TITLES[who]


def _contenders(outcome: Outcome) -> Table:
    table = _table("", "submit ", "bulk ", "drain ", "end to end ", "pick-up p50/95/99 ", "RSS (PSS) ")

    def of(key: Key) -> float | None:
        values = outcome.results.get(key)
        return median(values) if values else None

    for contender in contenders.ALL:
        rates = [
            of((contender.name, figure)) for figure in (Figure.SUBMIT, Figure.BULK, Figure.DRAIN, Figure.END_TO_END)
        ]
        pick_up = [
            of((contender.name, figure)) for figure in (Figure.PICK_UP_P50, Figure.PICK_UP_P95, Figure.PICK_UP_P99)
        ]
        rss, pss = of((contender.name, Figure.RSS)), of((contender.name, Figure.PSS))
        if any(value is not None for value in (*rates, *pick_up, rss)):
            table.add_row(
                contender.title,
                *map(number, rates),
                "/".join(map(number, pick_up)) if pick_up[0] is not None else NOTHING,
                f"{rss:.0f} ({pss:.0f})" if rss is not None and pss is not None else NOTHING,
            )
    return table


def _costs(outcome: Outcome) -> Table:
    table = _table("", "", "commits ", "round trips ", "messages ")
    before = ""
    for (who, figure), cost in outcome.costs.items():
        title, before = ("" if who == before else TITLES[who]), who
        table.add_row(title, str(figure), *(f"{one:.2f}" for one in (cost.commits, cost.round_trips, cost.messages)))
    return table


def _limits(outcome: Outcome) -> Table:
    table = _table("", "rows/s ")
    for (who, _), values in outcome.results.items():
        if who in LIMIT_TITLES:
            table.add_row(LIMIT_TITLES[who], number(median(values)))
    return table
