"""When a cron line fires: its five fields by Vixie's rules, in the local time of a zone, across the changes of clocks.

Day of month and day of week are OR where both are restricted, as in Vixie's cron, and AND where one begins with a star.
A line with a restricted hour goes by the clock on the wall: a local time that a change of clocks skips fires at the end
of the gap, one that comes twice fires the first time. One with `*` for the hour goes by elapsed time: each hour that
there is has its turn.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cron_descriptor import Options, get_description
from cronsim import CronSim, CronSimError

LONGEST = 200
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TERM = re.compile(r"(?P<first>\*|[a-z0-9]+)(-(?P<last>[a-z0-9]+))?(/(?P<step>[0-9]+))?")


@dataclass(frozen=True)
class _Range:
    """What a field may say: numbers, and names that stand for them."""

    words: str
    first: int
    last: int
    names: Mapping[str, int]

    @property
    def in_words(self) -> str:
        """The range in words."""
        names = list(self.names)
        return f"{self.first} to {self.last}" + (f" or {names[0]} to {names[-1]}" if names else "")


_RANGES: Final = {
    "minute": _Range("minute", 0, 59, {}),
    "hour": _Range("hour", 0, 23, {}),
    "day_of_month": _Range("day of month", 1, 31, {}),
    "month": _Range("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    "day_of_week": _Range("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
}


class CronError(ValueError):
    """Fields that are wrong: what is wrong with each, by its name."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{_RANGES[name].words}: {error}" for name, error in errors.items()))
        self.errors = dict(errors)


@dataclass(frozen=True)
class Cron:
    """A cron line in its five fields, which are good; made by `parse`."""

    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month: str = "*"
    day_of_week: str = "*"

    def __str__(self) -> str:
        return " ".join(getattr(self, field.name) for field in fields(self))

    def after(self, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Each moment after this one at which the line fires in the zone, in order, in UTC; for as long as asked."""
        return self._by_elapsed_time(moment, zone) if len(self._hours) == 24 else self._by_the_wall(moment, zone)

    def _by_the_wall(self, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        latest = moment
        for found in CronSim(self._line, moment.astimezone(zone)):
            at = found.astimezone(UTC)
            # Local times that a change of clocks skips all fall on the end of its gap; and those that come twice are
            # first found at the first of their two moments, which may have passed.
            if at > latest:
                latest = at
                yield at

    def _by_elapsed_time(self, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """From one change of clocks to the next: the library by itself loses an hour where they go by half of one."""
        latest, is_included = moment, False
        while True:
            offset = _offset(latest, zone)
            begin = latest - timedelta(seconds=1) if is_included else latest
            for found in CronSim(self._line, (begin + offset).replace(tzinfo=None)):
                at = found.replace(tzinfo=UTC) - offset
                if _offset(at, zone) != offset:
                    break
                latest = at
                yield at
            else:
                return
            latest, is_included = _change(latest, at, zone), True

    @cached_property
    def _hours(self) -> list[int]:
        return _numbers("hour", self.hour)

    @cached_property
    def _line(self) -> str:
        """For the library, which goes by the clock on the wall if neither minute nor hour begins with a star."""
        minute, hour = (",".join(map(str, one)) for one in (_numbers("minute", self.minute), self._hours))
        return " ".join((minute, hour, self.day_of_month, self.month, self.day_of_week))


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first second of another offset than at `before`, which `after` has."""
    offset = _offset(before, zone)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        before, after = (middle, after) if _offset(middle, zone) == offset else (before, middle)
    return after


def parse(
    minute: str = "*", hour: str = "*", day_of_month: str = "*", month: str = "*", day_of_week: str = "*"
) -> Cron:
    """A line of these fields. Raises CronError, with a sentence for each that is wrong, also where it never fires."""
    given = {
        "minute": minute,
        "hour": hour,
        "day_of_month": day_of_month,
        "month": month,
        "day_of_week": day_of_week,
    }
    cleaned = {name: value.strip().lower() for name, value in given.items()}
    errors = {name: wrong for name, value in cleaned.items() if (wrong := _wrong(name, value))}
    if errors:
        raise CronError(errors)
    cron = Cron(**cleaned)
    try:
        first = next(cron.after(datetime(2000, 1, 1, tzinfo=UTC), ZoneInfo("UTC")), None)
    except CronSimError:
        first = None
    if first is None:
        raise CronError({"day_of_month": f"{day_of_month} is no day of month {month}, so that it never fires"})
    return cron


def parse_line(line: str) -> Cron:
    """A line of five fields with spaces between them; raises CronError."""
    parts = line.split()
    if len(parts) != 5:
        raise CronError(
            {"minute": f"expected five fields, minute hour day-of-month month day-of-week, got {len(parts)}"}
        )
    return parse(*parts)


def _wrong(name: str, value: str) -> str | None:
    if not value:
        return "expected a number, a range such as 1-5, a list such as 1,3,5, a step such as */5, or *, got nothing"
    if len(value) > LONGEST:
        return f"expected at most {LONGEST} characters, got {len(value)}"
    return next(filter(None, (_wrong_term(_RANGES[name], term) for term in value.split(","))), None)


def _wrong_term(allowed: _Range, term: str) -> str | None:
    found = _TERM.fullmatch(term)
    if found is None:
        return f"expected a number, a range such as 1-5, a list such as 1,3,5, a step such as */5, or *, got {term!r}"
    ends = [end for end in (found["first"], found["last"]) if end is not None]
    if found["first"] == "*" and len(ends) == 2:
        return f"expected * or a range, got {term!r}"
    numbers = []
    for end in ends:
        if end == "*":
            continue
        number = allowed.names.get(end, int(end) if end.isdigit() else -1)
        if not allowed.first <= number <= allowed.last:
            return f"expected {allowed.in_words}, got {end!r}"
        numbers.append(number)
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        return f"expected a range from small to large, got {term!r}"
    if found["step"] is not None and not 1 <= int(found["step"]) <= allowed.last:
        return f"expected a step from 1 to {allowed.last}, got {found['step']!r}"
    return None


def _numbers(name: str, value: str) -> list[int]:
    """The numbers that a field of minutes or hours means."""
    allowed = _RANGES[name]
    found: set[int] = set()
    for term in value.split(","):
        parts = _TERM.fullmatch(term)
        assert parts is not None
        step = int(parts["step"] or 1)
        if parts["first"] == "*":
            first, last = allowed.first, allowed.last
        else:
            first = int(parts["first"])
            last = int(parts["last"]) if parts["last"] else (allowed.last if parts["step"] else first)
        found |= set(range(first, last + 1, step))
    return sorted(found)


def spread(number: int, minutes: int) -> int:
    """The minutes that are added to each nominal time of the schedule of this number, `minutes` at most.

    The number's lowest bits in reverse, so that neighbours are far apart, and of any sixty neighbours with 59 minutes
    no three have the same.
    """
    bits = minutes.bit_length()
    backwards = int(format(number % (1 << bits), f"0{bits}b")[::-1], 2) if bits else 0
    return backwards % (minutes + 1)


def next_times(cron: Cron, moment: datetime, zone: ZoneInfo, count: int) -> list[datetime]:
    """The next `count` moments after this one, in UTC."""
    return list(islice(cron.after(moment, zone), count))


def words(cron: Cron) -> str:
    """The line in English, such as "At 09:00, Monday through Friday"."""
    options = Options()
    options.use_24hour_time_format = True
    options.locale_code = "en"
    described = str(get_description(str(cron), options))
    if cron.day_of_month.startswith("*") or cron.day_of_week.startswith("*"):
        return described
    # The library reads the two as AND.
    return described.replace(", only on ", ", or on ")
