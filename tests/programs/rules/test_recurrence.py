"""Nominal times, and what is decided about those that have passed: tables, without a database."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobsite.programs.rules.cron import parse_line
from jobsite.programs.rules.recurrence import NAMED_MISSED, Fate, Missed, Pause, Recurrence, decide

UTC_ZONE = ZoneInfo("UTC")


def at(clock: str, day: int = 1) -> datetime:
    hour, minute, *second = (int(part) for part in clock.split(":"))
    return datetime(2026, 12, day, hour, minute, *second, tzinfo=UTC)


def hourly(**limits: datetime) -> Recurrence:
    return Recurrence(parse_line("0 * * * *"), None, UTC_ZONE, at("00:00"), **limits)


def every(minutes: int, anchor: str = "10:07") -> Recurrence:
    return Recurrence(None, timedelta(minutes=minutes), UTC_ZONE, at(anchor))


def fates(
    recurrence: Recurrence,
    first: str,
    now: str,
    missed: Missed = Missed.ONE,
    *,
    cap: int = 10,
    jitter: int = 0,
    pause: Pause | None = None,
) -> list[tuple[str, str]]:
    decisions, _ = decide(
        recurrence,
        first=at(first),
        now=at(now),
        jitter=timedelta(minutes=jitter),
        missed=missed,
        cap=cap,
        pause=pause,
    )
    return [(f"{one.at:%H:%M}", one.fate + (" late" if one.was_missed else "")) for one in decisions]


def test_an_interval_counts_from_its_anchor_and_never_drifts() -> None:
    times = every(25).after(at("10:07"))

    assert [f"{next(times):%H:%M}" for _ in range(4)] == ["10:32", "10:57", "11:22", "11:47"]
    assert every(25).next_after(at("10:32")) == at("10:57")
    assert every(25).next_after(at("10:31:59")) == at("10:32")


def test_an_anchor_may_be_in_the_future() -> None:
    assert every(25).next_after(at("03:00")) == at("10:32")


def test_there_are_no_times_before_the_begin_or_after_the_end() -> None:
    limited = hourly(begin=at("03:00"), end=at("05:00"))

    assert [f"{one:%H}" for one in limited.after(at("00:00"))] == ["03", "04", "05"]
    assert limited.next_after(at("05:00")) is None


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_newest_times_are_the_last_of_all(count: int) -> None:
    sparse = Recurrence(parse_line("17 3 * * 1"), None, ZoneInfo("Europe/Berlin"), at("00:00"))
    begin, until = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)

    assert sparse.newest(begin, until, count) == list(sparse.between(begin, until))[-count:]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, ["MISSED", "MISSED", "MISSED", "MISSED"]),
        (Missed.ONE, ["MISSED", "MISSED", "MISSED", "FIRES late"]),
        (Missed.ALL, ["FIRES late", "FIRES late", "FIRES late", "FIRES late"]),
    ],
)
def test_after_an_outage_the_policy_says_what_runs(missed: Missed, expected: list[str]) -> None:
    assert [fate for _, fate in fates(hourly(), "10:00", "13:20", missed)] == expected


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, ["MISSED", "FIRES"]),
        (Missed.ONE, ["MISSED", "FIRES"]),
        (Missed.ALL, ["FIRES late", "FIRES"]),
    ],
)
def test_a_time_within_a_minute_is_on_time(missed: Missed, expected: list[str]) -> None:
    assert [fate for _, fate in fates(hourly(), "12:00", "13:01", missed)] == expected


def test_no_more_missed_times_run_than_the_cap() -> None:
    found = fates(hourly(), "10:00", "15:30", Missed.ALL, cap=2)

    assert found == [
        ("10:00", "MISSED"),
        ("11:00", "MISSED"),
        ("12:00", "MISSED"),
        ("13:00", "MISSED"),
        ("14:00", "FIRES late"),
        ("15:00", "FIRES late"),
    ]


def test_a_time_has_passed_only_with_its_jitter() -> None:
    assert fates(hourly(), "10:00", "11:20", jitter=20) == [("10:00", "MISSED"), ("11:00", "FIRES")]
    assert fates(hourly(), "10:00", "11:19", jitter=20) == [("10:00", "FIRES late")]


def test_a_time_during_a_pause_is_skipped_with_the_reason() -> None:
    pause = Pause(at("10:30"), None, "alice", "holiday")

    decisions, following = decide(
        hourly(), first=at("11:00"), now=at("12:00:05"), jitter=timedelta(), missed=Missed.ALL, cap=9, pause=pause
    )

    assert [(one.fate, one.reason) for one in decisions] == [(Fate.SKIPPED, "paused by alice: holiday")] * 2
    assert following == at("13:00")


def test_nothing_fires_during_a_pause_not_even_times_missed_before_it() -> None:
    pause = Pause(at("10:30"), None, "alice", "")

    found = fates(hourly(), "09:00", "12:00:05", Missed.ALL, pause=pause)

    assert [fate for _, fate in found] == ["SKIPPED", "SKIPPED", "SKIPPED", "SKIPPED"]


def test_after_a_pause_the_policy_decides_about_the_rest() -> None:
    pause = Pause(at("10:30"), at("12:00"), "alice", "")

    assert fates(hourly(), "10:00", "14:00:05", pause=pause) == [
        ("10:00", "MISSED"),
        ("11:00", "SKIPPED"),
        ("12:00", "MISSED"),
        ("13:00", "MISSED"),
        ("14:00", "FIRES"),
    ]


def test_a_year_of_missed_minutes_is_one_stretch_and_the_last_hundred() -> None:
    minutely = Recurrence(parse_line("* * * * *"), None, UTC_ZONE, at("00:00"))
    first, now = datetime(2025, 12, 1, tzinfo=UTC), at("12:00:30")

    decisions, following = decide(
        minutely, first=first, now=now, jitter=timedelta(), missed=Missed.ONE, cap=1, pause=None
    )

    stretch, *named = decisions
    assert (stretch.at, stretch.fate, stretch.through) == (first, Fate.MISSED, named[0].at)
    assert [one.at for one in named] == [
        at("12:00") - timedelta(minutes=back) for back in reversed(range(NAMED_MISSED))
    ]
    assert [one.at for one in named if one.fate is Fate.FIRES] == [at("12:00")]
    assert following == at("12:01")
