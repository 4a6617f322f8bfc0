"""How the results are shown: the aims first, then everything that was measured."""

from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from jobsite.bench import contenders
from jobsite.bench.aims import AIMS, Results, Verdict, judge


def tables(results: Results) -> list[Table]:
    """The tables for people."""
    return [_aims(judge(AIMS, results))]


def _aims(verdicts: list[Verdict]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("figure")
    for heading in ("jobsite", "peer", "ratio", "aim"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for verdict in verdicts:
        aim = verdict.aim
        peer = f"{_title(aim.peer[0])} {_number(verdict.peer)}" if aim.peer and verdict.peer is not None else "–"
        sign = "≤" if aim.is_less_better else "≥"
        table.add_row(
            aim.label,
            _number(verdict.ours),
            peer,
            _number(verdict.ratio) if aim.peer else "–",
            "–" if aim.factor is None else f"{sign} {_number(aim.factor)}",
            {None: Text(""), True: Text("ok", style="green"), False: Text("missed", style="red")}[verdict.is_reached],
        )
    return table


def document(results: Results) -> dict[str, Any]:
    """The results as one JSON document."""
    return {
        "measured": [
            {"who": who, "figure": str(figure), "median": median(values), "values": list(values)}
            for (who, figure), values in results.items()
        ]
    }


def _title(name: str) -> str:
    return {contender.name: contender.title for contender in contenders.ALL}.get(name, name)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
