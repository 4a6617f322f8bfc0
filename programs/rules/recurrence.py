"""Which nominal times a schedule has, and what becomes of those that have passed: decided without a database or clock.

A nominal time is what the cron line or the interval says; the jitter, added when it fires, is no part of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile
from typing import Protocol
from zoneinfo import ZoneInfo

from jobsite.programs.rules import cron
from jobsite.programs.rules.cron import Cron, spread

GRACE = timedelta(seconds=60)
"""A time that fires later than this was missed: beat was down, or nobody came to it."""
NAMED_MISSED = 100
"""At most this many of the times that have passed are looked at one by one; those before them are one stretch."""
MINUTE = timedelta(minutes=1)


class Missed(StrEnum):
    """What becomes of times that were missed: none runs, the newest does, or all do, up to a cap."""

    SKIP = "SKIP"
    ONE = "ONE"
    ALL = "ALL"


@dataclass(frozen=True)
class Recurrence:
    """A cron line in a zone, or an interval counted from an anchor; never before `begin` nor after `end`."""

    cron: Cron | None
    interval: timedelta | None
    zone: ZoneInfo
    anchor: datetime
    begin: datetime | None = None
    end: datetime | None = None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Each nominal time after this moment, in order, in UTC."""
        if self.begin is not None:
            moment = max(moment, self.begin - timedelta(microseconds=1))
        times = self._by_interval(moment) if self.cron is None else self.cron.after(moment, self.zone)
        end = self.end
        return times if end is None else takewhile(lambda at: at <= end, times)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first of them; None where there is none any more."""
        return next(self.after(moment), None)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Each nominal time after the one moment and not after the other."""
        return takewhile(lambda at: at <= until, self.after(after))

    def newest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The last `count` of `between`, in order: looked for from the end, since there may be a year of them."""
        window = MINUTE * 2 * count
        while (begin := until - window) > after:
            found = list(self.between(begin, until))
            if len(found) >= count:
                return found[-count:]
            window *= 4
        return list(self.between(after, until))[-count:]

    def _by_interval(self, moment: datetime) -> Iterator[datetime]:
        assert self.interval is not None
        # From the anchor, never from the end of a run: no drift. The anchor itself is no time of it.
        turn = max((moment - self.anchor) // self.interval + 1, 1)
        while True:
            yield self.anchor + turn * self.interval
            turn += 1


class Timed(Protocol):
    """The columns that say when a schedule fires."""

    @property
    def id(self) -> int: ...
    @property
    def minute(self) -> str: ...
    @property
    def hour(self) -> str: ...
    @property
    def day_of_month(self) -> str: ...
    @property
    def month(self) -> str: ...
    @property
    def day_of_week(self) -> str: ...
    @property
    def interval_minutes(self) -> int | None: ...
    @property
    def anchor_at(self) -> datetime: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def starts_at(self) -> datetime | None: ...
    @property
    def ends_at(self) -> datetime | None: ...
    @property
    def jitter_minutes(self) -> int: ...


def recurrence_of(row: Timed) -> Recurrence:
    """The nominal times of a schedule."""
    zone = ZoneInfo(row.time_zone)
    if row.interval_minutes is not None:
        interval = timedelta(minutes=row.interval_minutes)
        return Recurrence(None, interval, zone, row.anchor_at, row.starts_at, row.ends_at)
    line = _cron(row.minute, row.hour, row.day_of_month, row.month, row.day_of_week)
    return Recurrence(line, None, zone, _NO_ANCHOR, row.starts_at, row.ends_at)


_NO_ANCHOR = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=10_000)
def _cron(*fields: str) -> Cron:
    return Cron(*fields)


def words(row: Timed) -> str:
    """When a schedule fires, in English, such as "Every 2 hours"."""
    if row.interval_minutes is None:
        return cron.words(_cron(row.minute, row.hour, row.day_of_month, row.month, row.day_of_week))
    for size, word in ((1_440, "day"), (60, "hour"), (1, "minute")):
        count, rest = divmod(row.interval_minutes, size)
        if not rest:
            return f"Every {word}" if count == 1 else f"Every {count} {word}s"
    raise AssertionError("an interval is a number of whole minutes")


def jitter_of(row: Timed) -> timedelta:
    """What is added to each nominal time of a schedule."""
    return timedelta(minutes=spread(row.id, row.jitter_minutes))


class Fate(StrEnum):
    """What becomes of a nominal time."""

    FIRES = "FIRES"
    SKIPPED = "SKIPPED"
    MISSED = "MISSED"


@dataclass(frozen=True)
class Decision:
    """One nominal time that has passed: `through`, where it stands for all from `at` to before that one."""

    at: datetime
    fate: Fate
    reason: str = ""
    was_missed: bool = False
    through: datetime | None = None


@dataclass(frozen=True)
class Pause:
    """A pause of the schedule: what would have fired in it is skipped."""

    since: datetime
    until: datetime | None
    by: str
    reason: str

    def covers(self, at: datetime) -> bool:
        """Whether the moment lies in it."""
        return self.since <= at and (self.until is None or at < self.until)

    def __str__(self) -> str:
        return f"paused by {self.by}" + (f": {self.reason}" if self.reason else "")


class Paused(Protocol):
    """The columns that say whether a schedule is paused."""

    @property
    def paused_at(self) -> datetime | None: ...
    @property
    def paused_by(self) -> str: ...
    @property
    def paused_reason(self) -> str: ...
    @property
    def paused_until(self) -> datetime | None: ...


def pause_of(row: Paused) -> Pause | None:
    """The pause of a schedule, which may have reached its end; None where there is none."""
    if row.paused_at is None:
        return None
    return Pause(row.paused_at, row.paused_until, row.paused_by, row.paused_reason)


# Of many schedules with one cron line, which fire together, only the first takes any time.
@lru_cache(maxsize=10_000)
def decide(
    recurrence: Recurrence,
    *,
    first: datetime,
    now: datetime,
    jitter: timedelta,
    missed: Missed,
    cap: int,
    pause: Pause | None = None,
) -> tuple[tuple[Decision, ...], datetime | None]:
    """What becomes of each time from `first`, which has passed, to now, in order, each once; and the next time.

    The newest is on time if it is not later than GRACE. By the policy fire: SKIP, that one alone, and only on time;
    ONE, that one, however late; ALL, the newest `cap`. What lies in a pause is skipped, and nothing fires during one.
    """
    until = now - jitter
    found = recurrence.newest(first - timedelta(microseconds=1), until, NAMED_MISSED + 1)
    decisions = []
    if len(found) > NAMED_MISSED:
        found = found[1:]
        decisions.append(Decision(first, Fate.MISSED, through=found[0]))
    paused = {at for at in found if pause is not None and pause.covers(at)}
    open_ = [at for at in found if at not in paused]
    firing = _firing(open_, until, missed, cap)
    is_paused_now = pause is not None and pause.covers(now)
    for at in found:
        if at in paused or (at in firing and is_paused_now):
            decisions.append(Decision(at, Fate.SKIPPED, str(pause)))
        elif at in firing:
            decisions.append(Decision(at, Fate.FIRES, was_missed=until - at > GRACE or at != open_[-1]))
        else:
            decisions.append(Decision(at, Fate.MISSED))
    return tuple(decisions), recurrence.next_after(until)


def _firing(times: Sequence[datetime], now: datetime, missed: Missed, cap: int) -> set[datetime]:
    newest = set(times[-1:])
    match missed:
        case Missed.SKIP:
            return {at for at in newest if now - at <= GRACE}
        case Missed.ONE:
            return newest
        case Missed.ALL:
            return set(times[-cap:])
