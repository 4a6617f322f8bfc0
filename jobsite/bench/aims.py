"""What is measured and what is aimed at: the figures, the comparisons between them, and the verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Figure(StrEnum):
    """A kind of measurement that a contender or a limit can have."""

    SUBMIT = "submit"
    BULK = "bulk"
    DRAIN = "drain"
    ALONE = "alone"
    END_TO_END = "end-to-end"
    PICK_UP_P50 = "pick-up p50"
    PICK_UP_P95 = "pick-up p95"
    PICK_UP_P99 = "pick-up p99"
    SLEEP = "sleep"
    LOG = "log"
    RSS = "rss"
    PSS = "pss"


# What --only accepts: each name with the figures that are measured together.
GROUPS: dict[str, tuple[Figure, ...]] = {
    "submit": (Figure.SUBMIT,),
    "bulk": (Figure.BULK,),
    "drain": (Figure.DRAIN,),
    "alone": (Figure.ALONE,),
    "end-to-end": (Figure.END_TO_END,),
    "pick-up": (Figure.PICK_UP_P50, Figure.PICK_UP_P95, Figure.PICK_UP_P99),
    "sleep": (Figure.SLEEP,),
    "log": (Figure.LOG,),
    "memory": (Figure.RSS, Figure.PSS),
}

Key = tuple[str, Figure]  # a contender's name, and what was measured of it
Results = Mapping[Key, Sequence[float]]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value such that at least `percent` of the values are not greater."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Aim:
    """A comparison of jobsite's figure with a peer's, or with a number where `peer` is None.

    `factor` is the smallest ratio that reaches the aim, or the greatest where less is better. None: the ratio is
    only shown.
    """

    label: str
    ours: Key
    peer: Key | None
    factor: float | None = None
    is_less_better: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of an aim: the medians, their ratio, and whether it is reached (None: the ratio is only shown)."""

    aim: Aim
    ours: float
    peer: float | None
    ratio: float
    is_reached: bool | None


def judge(aims: Sequence[Aim], results: Results) -> list[Verdict]:
    """The verdicts on those aims whose figures were measured."""
    verdicts = []
    for aim in aims:
        ours = results.get(aim.ours)
        peer = results.get(aim.peer) if aim.peer else None
        if not ours or (aim.peer and not peer):
            continue
        mine, other = median(ours), median(peer) if peer else None
        ratio = mine / other if other is not None else mine
        is_reached = None
        if aim.factor is not None:
            is_reached = ratio <= aim.factor if aim.is_less_better else ratio >= aim.factor
        verdicts.append(Verdict(aim, mine, other, ratio, is_reached))
    return verdicts


_DRAIN = "drain, jobs/s"
_ALONE = "drain, one a message, jobs/s"
_END = "end to end, jobs/s"

AIMS: tuple[Aim, ...] = (
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("celery", Figure.DRAIN), 8),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("celery-results", Figure.DRAIN), 40),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("celery-results-reuse", Figure.DRAIN)),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("procrastinate", Figure.DRAIN), 12),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("django-tasks", Figure.DRAIN)),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("rq", Figure.DRAIN)),
    Aim(_DRAIN, ("jobsite", Figure.DRAIN), ("fetch-100", Figure.DRAIN), 0.5),
    Aim("drain, 8 threads, jobs/s", ("jobsite-threads", Figure.DRAIN), ("celery-threads", Figure.DRAIN)),
    Aim(_ALONE, ("jobsite", Figure.ALONE), ("celery", Figure.DRAIN), 0.6),
    Aim(_ALONE, ("jobsite", Figure.ALONE), ("celery-results", Figure.DRAIN), 2.5),
    Aim(_END, ("jobsite", Figure.END_TO_END), ("celery", Figure.END_TO_END), 0.8),
    Aim(_END, ("jobsite", Figure.END_TO_END), ("procrastinate", Figure.END_TO_END), 1.5),
    Aim("single submissions/s", ("jobsite", Figure.SUBMIT), ("celery", Figure.SUBMIT)),
    Aim("single submissions/s", ("jobsite", Figure.SUBMIT), ("procrastinate", Figure.SUBMIT), 1.2),
    Aim("bulk submissions, rows/s", ("jobsite", Figure.BULK), None, 25_000),
    Aim("bulk submissions, rows/s", ("jobsite", Figure.BULK), ("copy", Figure.BULK), 0.2),
    Aim("pick-up p50, ms", ("jobsite", Figure.PICK_UP_P50), ("celery", Figure.PICK_UP_P50), 1.6, True),
    Aim("pick-up p99, ms", ("jobsite", Figure.PICK_UP_P99), ("jobsite", Figure.PICK_UP_P50), 3, True),
    Aim("log lines of a command/s", ("jobsite", Figure.LOG), None),
    Aim("50 ms jobs in 2 processes", ("jobsite", Figure.SLEEP), None, 0.95),
    Aim("50 ms jobs in 8 threads", ("jobsite-threads", Figure.SLEEP), None, 0.95),
    *(
        Aim(f"grown database: {label}", ("jobsite-grown", figure), ("jobsite", figure), 0.9)
        for label, figure in (
            ("drain", Figure.DRAIN),
            ("one a message", Figure.ALONE),
            ("end to end", Figure.END_TO_END),
            ("submit", Figure.SUBMIT),
            ("bulk", Figure.BULK),
        )
    ),
)
