"""How figures are compared and shown, without measuring anything."""

from io import StringIO

import pytest
from rich.console import Console

from jobsite.bench import contenders, limits, report
from jobsite.bench.aims import AIMS, Aim, Figure, judge, percentile
from jobsite.bench.costs import Cost
from jobsite.bench.run import Outcome

OURS, THEIRS = ("jobsite", Figure.DRAIN), ("celery", Figure.DRAIN)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (0, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    values = list(range(100, 0, -1))

    assert percentile(values, percent) == expected


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(("ours", "is_reached"), [(800.0, True), (799.0, False)])
def test_more_is_better_unless_said_otherwise(ours: float, is_reached: bool) -> None:
    verdict = judge([Aim("drain", OURS, THEIRS, 8)], {OURS: [ours], THEIRS: [100.0]})[0]

    assert (verdict.ratio, verdict.is_reached) == (ours / 100, is_reached)


@pytest.mark.parametrize(("ours", "is_reached"), [(16.0, True), (16.1, False)])
def test_less_is_better_where_it_is_said(ours: float, is_reached: bool) -> None:
    aim = Aim("pick-up", OURS, THEIRS, 1.6, is_less_better=True)

    assert judge([aim], {OURS: [ours], THEIRS: [10.0]})[0].is_reached is is_reached


def test_medians_are_compared_so_that_one_bad_round_decides_nothing() -> None:
    verdict = judge([Aim("drain", OURS, THEIRS, 2)], {OURS: [1.0, 300.0, 200.0], THEIRS: [100.0, 90.0, 9_000.0]})[0]

    assert (verdict.ours, verdict.peer, verdict.is_reached) == (200.0, 100.0, True)


def test_an_aim_without_a_peer_is_a_number() -> None:
    verdict = judge([Aim("bulk", OURS, None, 25_000)], {OURS: [25_000.0]})[0]

    assert (verdict.peer, verdict.is_reached) == (None, True)


def test_what_was_not_measured_is_not_judged() -> None:
    assert judge(AIMS, {OURS: [1.0]}) == []


def test_without_an_aim_there_is_a_ratio_and_no_verdict() -> None:
    assert judge([Aim("drain", OURS, THEIRS)], {OURS: [3.0], THEIRS: [2.0]})[0].is_reached is None


def test_every_aim_is_about_known_contenders() -> None:
    names = {contender.name for contender in contenders.ALL} | {name for name, *_ in limits.LIMITS}

    assert {who for aim in AIMS for who, _ in filter(None, (aim.ours, aim.peer))} <= names


@pytest.fixture
def outcome() -> Outcome:
    """An outcome with the longest possible figures."""
    names = [contender.name for contender in contenders.ALL]
    small = {Figure.PICK_UP_P50: 1_234.5, Figure.PICK_UP_P95: 1_234.5, Figure.PICK_UP_P99: 1_234.5}
    results = {(name, figure): [small.get(figure, 123_456.789)] for name in names for figure in Figure}
    results |= {(name, limits.FIGURES.get(name, Figure.DRAIN)): [123_456.789] for name, *_ in limits.LIMITS}
    costs = {(name, figure): Cost(12.345, 12.345, 12.345) for name in names for figure in (Figure.SUBMIT, Figure.DRAIN)}
    return Outcome(results, costs, failures=[])


def test_the_tables_fit_into_a_hundred_columns(outcome: Outcome) -> None:
    console = Console(width=400)

    widths = [console.measure(table).maximum for _, table in report.tables(outcome)]

    assert len(widths) == 4
    assert max(widths) <= 100


def test_the_table_says_which_aims_are_missed(outcome: Outcome) -> None:
    console = Console(width=100, file=StringIO())

    with console.capture() as captured:
        for _, table in report.tables(outcome):
            console.print(table)
    text = captured.get()

    assert text.count("missed") == sum(verdict.is_reached is False for verdict in judge(AIMS, outcome.results)) > 0
    assert text.count(" ok") == sum(verdict.is_reached is True for verdict in judge(AIMS, outcome.results)) > 0


def test_the_document_has_every_round(outcome: Outcome) -> None:
    outcome.results[OURS].append(1.0)

    found = [one for one in report.document(outcome)["measured"] if (one["who"], one["figure"]) == ("jobsite", "drain")]

    assert [one["rounds"] for one in found] == [[123_456.789, 1.0]]


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (0.123, "0.12"), (12.34, "12.3"), (12_345.6, "12,346")])
def test_a_figure_has_three_significant_digits(value: float | None, shown: str) -> None:
    assert report.number(value) == shown
