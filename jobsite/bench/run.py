"""The run: every contender has a turn in each round, so that a drift of the machine affects all of them."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from jobsite.bench import contenders, growth, limits
from jobsite.bench.aims import Figure, Key
from jobsite.bench.contenders.base import Contender
from jobsite.bench.costs import Cost, CountingTurn
from jobsite.bench.ground import Ground
from jobsite.bench.measure import Say, Sizes, Turn
from jobsite.bench.processes import BenchError

COUNTED = frozenset({Figure.SUBMIT, Figure.BULK, Figure.DRAIN, Figure.ALONE, Figure.END_TO_END})
COUNTED_JOBS = 2_000
TITLES = {name: title for name, title, *_ in limits.LIMITS}


@dataclass(frozen=True)
class Plan:
    """What is to be measured. `history` is the number of finished rows in the grown database, 0 for no such one."""

    rounds: int
    sizes: Sizes
    figures: frozenset[Figure]
    with_limits: bool
    with_costs: bool
    history: int = 0
    only: frozenset[str] = frozenset()  # names of contenders; empty: all

    def wants(self, contender: Contender) -> bool:
        """Whether the contender is to be measured."""
        if contender is contenders.GROWN:
            return self.history > 0
        return not self.only or contender.name in self.only


@dataclass(frozen=True)
class Outcome:
    """What was measured in each round, what a job costs, and which turns failed."""

    results: dict[Key, list[float]]
    costs: dict[Key, Cost]
    failures: list[str]


def run(ground: Ground, plan: Plan, *, say: Say) -> Outcome:
    """Measure every figure of every contender once in each round. The values are in the order of the rounds."""
    results: dict[Key, list[float]] = defaultdict(list)
    failures: list[str] = []
    present = _present(plan, say)
    for name in {contender.database for contender in present if contender.database} | {limits.DATABASE}:
        ground.create_database(name)
    if contenders.GROWN in present:
        _grow(ground, plan.history, say)

    def record(who: str, figure: Figure, value: float) -> None:
        results[who, figure].append(value)
        say(f"    {TITLES.get(who, figure)}  {value:,.2f}")

    for number in range(1, plan.rounds + 1):
        for contender in present if plan.figures else ():
            say(f"round {number} of {plan.rounds}: {contender.title}")

            def record_of(figure: Figure, value: float, who: str = contender.name) -> None:
                record(who, figure, value)

            with _kept_going(failures, say):
                Turn(ground, contender, plan.sizes, record=record_of, say=say).run(plan.figures)
        if plan.with_limits:
            say(f"round {number} of {plan.rounds}: limits of PostgreSQL")
            limits.measure(ground, plan.sizes.jobs, record)
    costs = _costs(ground, plan, present, failures, say) if plan.with_costs else {}
    return Outcome(dict(results), costs, failures)


@contextmanager
def _kept_going(failures: list[str], say: Say) -> Iterator[None]:
    """A contender that fails loses its own figures only."""
    try:
        yield
    except BenchError as error:
        failures.append(str(error))
        say(f"    failed: {error}")


def _present(plan: Plan, say: Say) -> list[Contender]:
    present = []
    for contender in contenders.ALL:
        if not plan.wants(contender):
            continue
        if contender.missing:
            say(f"{contender.title} is left out: {', '.join(contender.missing)} is not installed (extra bench)")
        else:
            present.append(contender)
    return present


def _grow(ground: Ground, history: int, say: Say) -> None:
    wanted = growth.Growth(history)
    say(
        f"filling: {wanted.finished:,} finished, {wanted.future:,} future and {wanted.held:,} held jobs "
        f"of {wanted.tenants:,} tenants"
    )
    began = time.monotonic()
    migrating = Turn(ground, contenders.GROWN, Sizes.quick(), record=lambda figure, value: None, say=say)
    migrating.run(frozenset())
    with ground.administer(contenders.GROWN.database or "") as connection:
        growth.fill(connection, wanted)
    say(f"    filled in {time.monotonic() - began:,.0f} s")


def _costs(ground: Ground, plan: Plan, present: Sequence[Contender], failures: list[str], say: Say) -> dict[Key, Cost]:
    costs: dict[Key, Cost] = {}
    sizes = replace(plan.sizes, jobs=min(COUNTED_JOBS, plan.sizes.jobs))
    for contender in present:
        say(f"counting: {contender.title}")
        turn = CountingTurn(ground, contender, sizes, say=say)
        with _kept_going(failures, say):
            turn.run(COUNTED)
        costs |= {(contender.name, figure): cost for figure, cost in turn.costs.items()}
    return costs
