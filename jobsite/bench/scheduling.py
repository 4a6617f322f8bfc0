"""Thousands of schedules that fire every minute: how late they are and what beat uses, against django-celery-beat."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from jobsite.bench.ground import Ground
from jobsite.bench.measure import Say
from jobsite.bench.processes import BenchError, Launch, end, spawn, tail, until

IDLE = 100_000
BOOT_SECONDS = 120.0
PREFIX = "jobsite:{}:beat"
FIRED = """
SELECT extract(epoch FROM at - nominal_at)::float FROM jobsite_firing WHERE nominal_at >= to_timestamp(%s) ORDER BY 1
"""


@dataclass(frozen=True)
class Fired:
    """What one scheduler did: how many were due, the sorted lateness in seconds of those that came, CPU and memory."""

    who: str
    due: int
    lateness: Sequence[float]
    cpu: float
    megabytes: float

    def late(self, share: float) -> float | None:
        """The lateness that this share of those that came did not exceed; None where none came."""
        return self.lateness[min(len(self.lateness) - 1, int(len(self.lateness) * share))] if self.lateness else None


@dataclass(frozen=True)
class Scheduling:
    """Both schedulers, and the milliseconds of a sweep that finds nothing due among a hundred thousand schedules."""

    fired: Sequence[Fired]
    idle_milliseconds: float


def measure(ground: Ground, count: int, minutes: int, *, say: Say) -> Scheduling:
    """Let each scheduler fire `count` schedules every minute for `minutes` minutes, one scheduler after the other."""
    with ground.administer("postgres") as connection:
        for name in ("schedules", "periodic", "idle"):
            connection.execute(f'CREATE DATABASE "{name}" OWNER jobsite')
    say(f"filling: {count:,} schedules, {count:,} PeriodicTasks, {IDLE:,} schedules that are not due")
    for who, name in (("jobsite", "schedules"), ("beat", "periodic")):
        _fill(ground, who, name, count)
    idle = _fill(ground, "idle", "idle", IDLE)
    say(f"    a sweep that finds nothing due takes {idle:.2f} ms")
    return Scheduling([_jobsite(ground, count, minutes, say), _celery(ground, count, minutes, say)], idle)


def _fill(ground: Ground, who: str, database: str, count: int) -> Any:
    argv = [sys.executable, "-m", "jobsite.bench.bodies.schedules", who, str(count)]
    environment = ground.environment(database) | {"DJANGO_SETTINGS_MODULE": "jobsite.settings"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the schedules of {who} could not be made: {done.stderr[-2_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _jobsite(ground: Ground, count: int, minutes: int, say: Say) -> Fired:
    with _beat(ground, "schedules", broker=0) as beat, ground.administer("schedules") as connection:
        begin, used, megabytes = _minutes(beat, minutes, say, "jobsite")
        lateness = [row[0] for row in connection.execute(FIRED, [begin]).fetchall()]
    return Fired("jobsite", count * minutes, lateness[: count * minutes], used, megabytes)


def _celery(ground: Ground, count: int, minutes: int, say: Say) -> Fired:
    """Measure the messages where a worker would take them: at the other end of the broker."""
    came: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        client = ground.redis(1)
        while not is_over.is_set():
            if client.blpop([PREFIX.format("periodic")], timeout=1):
                came.append(time.time())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        scheduler = ("-S", "django_celery_beat.schedulers:DatabaseScheduler")
        with _beat(ground, "periodic", *scheduler, broker=1) as beat:
            begin, used, megabytes = _minutes(beat, minutes, say, "django-celery-beat")
    finally:
        is_over.set()
        watcher.join(5)
    within = [at for at in came if begin <= at < begin + 60 * minutes]
    return Fired("django-celery-beat", count * minutes, sorted((at - begin) % 60 for at in within), used, megabytes)


class _Beat:
    """A running beat process."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log

    def cpu(self) -> float:
        """The CPU seconds that it has used."""
        parts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """The memory that it holds, in megabytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1_024

    def check(self) -> bool:
        """Whether it has started. Raises BenchError when it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"beat ended with status {self.process.poll()}: {tail(self.log)}")
        return "beat: Starting" in self.log.read_text(errors="replace")


@contextmanager
def _beat(ground: Ground, database: str, *options: str, broker: int) -> Iterator[_Beat]:
    log = ground.folder / f"beat-{database}.log"
    argv = ["-m", "celery", "-A", "jobsite", "beat", "-l", "INFO", "--pidfile", "", *options]
    environment = ground.environment(database, broker=broker) | {"DJANGO_SETTINGS_MODULE": "jobsite.settings"}
    log.write_text("")
    beat = _Beat(spawn(Launch(argv), environment, log), log)
    try:
        until(beat.check, f"beat has started: {log}", seconds=BOOT_SECONDS, pause=0.1)
        yield beat
    finally:
        end(beat.process)


def _minutes(beat: _Beat, minutes: int, say: Say, who: str) -> tuple[float, float, float]:
    """Let whole minutes pass. Returns when they began, the CPU seconds that beat used, and its memory at the end."""
    begin = (time.time() // 60 + 1) * 60
    say(f"{who}: {minutes} minutes from {time.strftime('%H:%M', time.gmtime(begin))} UTC")
    until(lambda: beat.check() and time.time() >= begin, "the minute begins", seconds=70, pause=0.05)
    before = beat.cpu()
    # Wait until the end of the last minute, so that what fires late in it counts too.
    until(
        lambda: beat.check() and time.time() >= begin + 60 * minutes - 1, "they pass", seconds=70 * minutes, pause=0.5
    )
    return begin, beat.cpu() - before, beat.megabytes()


def table(found: Scheduling) -> Table:
    """Both schedulers, and how many times better jobsite is."""
    shown = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "due", "fired", "late p50 s", "p99 s", "max s", "CPU s", "MB"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for one in found.fired:
        lates = [one.late(share) for share in (0.5, 0.99, 1.0)]
        cells = [f"{late:.2f}" if late is not None else "–" for late in lates]
        shown.add_row(
            one.who, f"{one.due:,}", f"{len(one.lateness):,}", *cells, f"{one.cpu:.1f}", f"{one.megabytes:.0f}"
        )
    ours, theirs = found.fired
    ratios = [_ratio(theirs.late(share), ours.late(share)) for share in (0.5, 0.99, 1.0)]
    shown.add_row("ratio", "", "", *ratios, _ratio(theirs.cpu, ours.cpu), _ratio(theirs.megabytes, ours.megabytes))
    return shown


def _ratio(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.1f}" if theirs is not None and ours else "–"


def document(found: Scheduling) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "idle_milliseconds": found.idle_milliseconds,
        "idle_schedules": IDLE,
        "fired": [
            {
                "who": one.who,
                "due": one.due,
                "fired": len(one.lateness),
                "late_p50": one.late(0.5),
                "late_p99": one.late(0.99),
                "late_max": one.late(1.0),
                "cpu_seconds": one.cpu,
                "megabytes": one.megabytes,
            }
            for one in found.fired
        ],
    }
