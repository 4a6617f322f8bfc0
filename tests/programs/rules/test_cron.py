"""Cron: compared with a matcher that checks every minute, in zones and weeks in which clocks change."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from jobsite.programs.rules import cron
from jobsite.programs.rules.cron import CronError, parse, parse_line, spread

MINUTE = timedelta(minutes=1)


def of(line, zone, begin, end):
    found = []
    for at in parse_line(line).after(begin - MINUTE, ZoneInfo(zone)):
        if at >= end:
            return found
        found.append(at)
    return found


# ---- the reference: every minute is checked -----------------------------------------------------------------------


DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
NAMES = {name: number for number, name in enumerate(DAYS)} | {name: n for n, name in enumerate(MONTHS, start=1)}


def meant(field, first, last):
    """The numbers that a field means, found without the code under test."""
    found = set()
    for term in field.split(","):
        body, _, step = term.partition("/")
        low, _, high = body.partition("-")
        if body == "*":
            low, high = first, last
        else:
            low = NAMES.get(low, low)
            high = NAMES.get(high, high) if high else (last if step else low)
        found |= set(range(int(low), int(high) + 1, int(step or 1)))
    return found


@cache
def clock(zone, begin, end):
    """Each minute, its local time, whether that time has occurred before, and the local minutes skipped before it."""
    minutes = []
    at, tz, before = begin, ZoneInfo(zone), None
    while at < end:
        local = at.astimezone(tz)
        wall = local.replace(tzinfo=None, fold=0)
        skipped = []
        if before is not None and wall - before > MINUTE:
            skipped = [before + n * MINUTE for n in range(1, int((wall - before) / MINUTE))]
        minutes.append((at, wall, bool(local.fold), skipped))
        at, before = at + MINUTE, wall
    return minutes


def minute_by_minute(line, zone, begin, end):
    minute, hour, day, month, weekday = line.split()
    minutes, hours = meant(minute, 0, 59), meant(hour, 0, 23)
    days, months = meant(day, 1, 31), meant(month, 1, 12)
    weekdays = {number % 7 for number in meant(weekday, 0, 7)}
    is_and = day.startswith("*") or weekday.startswith("*")

    def matches(wall):
        of_month, of_week = wall.day in days, wall.isoweekday() % 7 in weekdays
        is_day = (of_month and of_week) if is_and else (of_month or of_week)
        return wall.minute in minutes and wall.hour in hours and wall.month in months and is_day

    is_local = len(hours) < 24
    found = []
    for at, wall, is_second, skipped in clock(zone, begin, end):
        if (matches(wall) and not (is_local and is_second)) or (is_local and any(map(matches, skipped))):
            found.append(at)
    return found


# ---- times of firing ----------------------------------------------------------------------------------------------


# Changes of a whole hour, of half an hour, at midnight, of a whole day, no change at all, and one backwards in winter.
WEEKS = [
    ("Europe/Berlin", datetime(2026, 3, 27, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 23, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 6, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 2, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 10, 28, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 28, tzinfo=UTC)),
    ("Asia/Kolkata", datetime(2026, 2, 27, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2026, 2, 14, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 4, tzinfo=UTC)),
]


def random_field(dice, first, last, names=()):
    def number():
        value = dice.randint(first, last)
        return dice.choice(names) if names and dice.random() < 0.3 else str(value)

    def term():
        match dice.randrange(5):
            case 0:
                return number()
            case 1:
                return f"*/{dice.randint(1, max(2, (last - first) // 2))}"
            case 2:
                low, high = sorted(dice.sample(range(first, last + 1), 2))
                return f"{low}-{high}"
            case 3:
                low, high = sorted(dice.sample(range(first, last + 1), 2))
                return f"{low}-{high}/{dice.randint(1, 4)}"
            case _:
                return f"{dice.randint(first, last)}/{dice.randint(1, 5)}"

    return ",".join(term() for _ in range(dice.choice([1, 1, 1, 2, 3])))


def random_line(dice):
    ranges = [(0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, MONTHS), (0, 7, DAYS)]
    stars = [0.2, 0.4, 0.6, 0.8, 0.6]
    return " ".join(
        "*" if dice.random() < star else random_field(dice, *one) for one, star in zip(ranges, stars, strict=True)
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lines", [40, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("zone", "begin"), WEEKS, ids=lambda value: value if isinstance(value, str) else f"{value:%F}")
def test_lines_fire_as_a_check_of_every_minute_says(zone, begin, lines):
    dice = random.Random(f"{zone} {begin}")
    end = begin + timedelta(days=5)
    asked = fired = 0
    while asked < lines:
        line = random_line(dice)
        try:
            parse_line(line)
        except CronError as error:
            assert "never fires" in str(error), line
            continue
        expected = minute_by_minute(line, zone, begin, end)

        assert of(line, zone, begin, end) == expected, line
        asked, fired = asked + 1, fired + len(expected)

    assert fired > 3 * lines


def test_the_next_time_is_the_same_from_whatever_moment_one_asks(zone="Europe/Berlin"):
    """Also from the second occurrence of an hour."""
    begin, end = datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)
    for line in ("30 2 * * *", "*/20 1-3 * * *", "15 * * * *", "0 0,2,3 * * *"):
        whole = of(line, zone, begin, end)
        at = begin
        while at < end:
            following = next(parse_line(line).after(at, ZoneInfo(zone)))
            assert following == next((one for one in whole if one > at), following), (line, at)
            at += 7 * MINUTE


@pytest.mark.parametrize(
    ("line", "zone", "day", "local"),
    [
        # The clocks of Berlin go from 2 to 3 on 29 March, and from 3 to 2 on 25 October.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:30+0200"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:00+0200", "02:30+0200"]),
        ("0 1-3 * * *", "Europe/Berlin", "2026-10-25", ["01:00+0200", "02:00+0200", "03:00+0100"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-24", ["01:00+0300"]),
    ],
)
def test_a_skipped_time_fires_after_the_gap_and_a_repeated_one_once(line, zone, day, local):
    tz = ZoneInfo(zone)
    begin = datetime.fromisoformat(day).replace(tzinfo=tz)
    found = of(line, zone, begin.astimezone(UTC), (begin + timedelta(days=1)).astimezone(UTC))

    assert [f"{at.astimezone(tz):%H:%M%z}" for at in found] == local


def test_an_hourly_line_fires_in_repeated_hours_too():
    begin = datetime(2026, 10, 24, 22, tzinfo=UTC)

    assert of("0 * * * *", "Europe/Berlin", begin, begin + timedelta(hours=25)) == [
        begin + timedelta(hours=n) for n in range(25)
    ]


def test_either_day_matches_when_day_of_month_and_day_of_week_are_both_restricted():
    begin, end = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)

    assert [at.day for at in of("0 0 13 * fri", "UTC", begin, end)] == [5, 12, 13, 19, 26]
    assert [at.day for at in of("0 0 */10 * fri", "UTC", begin, end)] == []
    assert [at.day for at in of("0 0 13 * *", "UTC", begin, end)] == [13]
    assert [at.day for at in of("0 0 * * 7", "UTC", begin, end)] == [7, 14, 21, 28]


# ---- invalid lines ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"minute": "60"}, {"minute": "expected 0 to 59, got '60'"}),
        ({"hour": "24", "month": "13"}, {"hour": "expected 0 to 23, got '24'",
                                         "month": "expected 1 to 12 or jan to dec, got '13'"}),
        ({"day_of_month": "0"}, {"day_of_month": "expected 1 to 31, got '0'"}),
        ({"day_of_week": "8"}, {"day_of_week": "expected 0 to 7 or sun to sat, got '8'"}),
        ({"day_of_week": "monday"}, {"day_of_week": "expected 0 to 7 or sun to sat, got 'monday'"}),
        ({"hour": "5-3"}, {"hour": "expected a range from small to large, got '5-3'"}),
        ({"minute": "*/0"}, {"minute": "expected a step from 1 to 59, got '0'"}),
        ({"minute": "*/60"}, {"minute": "expected a step from 1 to 59, got '60'"}),
        ({"minute": "1,,2"}, {"minute": "expected a number, a range such as 1-5, a list such as 1,3,5, "
                                        "a step such as */5, or *, got ''"}),
        ({"minute": "*-5"}, {"minute": "expected * or a range, got '*-5'"}),
        ({"day_of_month": "L"}, {"day_of_month": "expected 1 to 31, got 'l'"}),
        ({"day_of_month": "31", "month": "feb"}, {"day_of_month": "31 is no day of month feb, so that it never fires"}),
        ({"minute": "1" * 201}, {"minute": "expected at most 200 characters, got 201"}),
    ],
)  # fmt: skip
def test_each_wrong_field_has_its_own_error(fields, errors):
    with pytest.raises(CronError) as refusal:
        parse(**fields)

    assert refusal.value.errors == errors


def test_the_error_of_an_empty_field_says_what_is_allowed():
    with pytest.raises(CronError, match="minute: expected a number, a range such as 1-5"):
        parse(minute=" ")


def test_a_line_has_five_fields():
    with pytest.raises(CronError, match=r"expected five fields, .* got 6"):
        parse_line("0 0 * * * *")


def test_a_line_is_shown_as_it_was_given():
    assert str(parse(" 0 ", "9", "*", "JAN", "Mon-FRI")) == "0 9 * jan mon-fri"


# ---- jitter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 17, 1_000, 2**40 + 5])
def test_sixty_hourly_schedules_put_at_most_two_into_a_minute(first):
    minutes = Counter(spread(number, 59) for number in range(first, first + 60))

    assert max(minutes.values()) <= 2
    assert set(minutes) <= set(range(60))


@pytest.mark.parametrize("jitter", [0, 1, 2, 5, 10, 30, 59])
def test_jitter_stays_within_its_limit_and_uses_all_of_it(jitter):
    found = Counter(spread(number, jitter) for number in range(6_400))

    assert set(found) == set(range(jitter + 1))
    assert max(found.values()) <= 2 * min(found.values())


def test_the_next_times_are_as_many_as_asked_for():
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    assert cron.next_times(parse_line("0 9 * * 1-5"), begin, ZoneInfo("Europe/Berlin"), 2) == [
        datetime(2026, 1, 1, 8, tzinfo=UTC),
        datetime(2026, 1, 2, 8, tzinfo=UTC),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 9 * * 1-5", "At 09:00, Monday through Friday"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("0 0 13 * fri", "At 00:00, on day 13 of the month, or on Friday"),
        ("0 0 */2 * fri", "At 00:00, every 2 days, only on Friday"),
    ],
)
def test_a_line_in_words(line, words):
    assert cron.words(parse_line(line)) == words
