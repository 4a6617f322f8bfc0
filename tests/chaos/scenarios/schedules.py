"""R22, R23 and R30: schedules with two beats, with none, and ten thousand of them."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from django.db import connection

from jobsite.programs import schedules
from jobsite.programs.models import Program
from jobsite.programs.schedules import Wanted
from jobsite.tenants import principals
from tests.chaos.chaos import Chaos
from tests.chaos.registry import scenario
from tests.flows.processes import OwnProcess

MINUTE = timedelta(minutes=1)
ON_TIME = timedelta(seconds=60)
CAP = 5
POINTS = "record_firings.before=kill*4;record_firings.after=kill*4"
POLICIES = ("SKIP", "ONE", "ALL")

# Each fires every minute at its own second, so that some are due in every second.
STAGGER = """
UPDATE jobsite_schedule s SET anchor_at = x.at, next_at = x.first, due_at = x.first
FROM (SELECT id, at, at + interval '1 minute' AS first
      FROM jobsite_schedule CROSS JOIN LATERAL (
          SELECT date_trunc('second', clock_timestamp()) - (id %% 60) * interval '1 second' - %s AS at) a) x
WHERE x.id = s.id AND s.code LIKE %s
"""
ROWS = """
SELECT s.code, s.anchor_at, s.missed, f.nominal_at, f.at, f.result, f.job_number
FROM jobsite_schedule s LEFT JOIN jobsite_firing f ON f.schedule_id = s.id WHERE s.code LIKE %s
ORDER BY s.code, f.nominal_at
"""


def _make(
    chaos: Chaos, program: Program, prefix: str, count: int, missed: str, *, ago: timedelta = timedelta()
) -> None:
    """Make `count` schedules whose first time is in the next minute, or `ago` earlier."""
    principal = principals.local(chaos.tenant(), login="chaos")
    for number in range(count):
        wanted = Wanted(program.code, interval_minutes=1, missed=missed, missed_cap=CAP)
        schedules.create(principal, f"{prefix}-{number}", wanted)
    with connection.cursor() as cursor:
        cursor.execute(STAGGER, [ago, f"{prefix}-%"])
    connection.close()


def _by_schedule(chaos: Chaos, prefix: str) -> dict[str, list[tuple]]:
    found: dict[str, list[tuple]] = defaultdict(list)
    for row in chaos.database.rows(ROWS, f"{prefix}-%"):
        if row[3] is not None:
            found[row[0]].append(row)
    chaos.inserted.update(int(row[6]) for rows in found.values() for row in rows if row[6] is not None)
    return found


def _look(chaos: Chaos, prefix: str, count: int, *, until: datetime) -> None:
    """Each nominal time has one row, none is missing or double, and the policy's times have fired."""
    found = _by_schedule(chaos, prefix)
    chaos.expect(len(found) == count, f"{len(found)} schedules of {prefix} have fired, not {count}")
    for code, rows in found.items():
        anchor = rows[0][1]
        times = [row[3] for row in rows]
        turns = int((until - anchor) / MINUTE)
        wanted = [anchor + turn * MINUTE for turn in range(1, turns + 1)]
        chaos.expect(
            times[: len(wanted)] == wanted,
            f"{code}: {len(times)} rows for {len(wanted)} times; missing {sorted(set(wanted) - set(times))[:3]},"
            f" more {sorted(set(times[: len(wanted)]) - set(wanted))[:3]}",
        )
        for at, batch in _batches(rows):
            fired = [row[3] for row in batch if row[5] == "FIRED"]
            chaos.expect(
                fired == _wanted_of(batch, at), f"{code} at {at}: {len(fired)} of {len(batch)} fired by {batch[0][2]}"
            )


def _batches(rows: Iterable[tuple]) -> Iterable[tuple[datetime, list[tuple]]]:
    found: dict[datetime, list[tuple]] = defaultdict(list)
    for row in rows:
        found[row[4]].append(row)
    return found.items()


def _wanted_of(batch: list[tuple], at: datetime) -> list[datetime]:
    """The times of a batch, handled at one moment, that the policy fires."""
    times = [row[3] for row in batch]
    match batch[0][2]:
        case "SKIP":
            return times[-1:] if at - times[-1] <= ON_TIME else []
        case "ONE":
            return times[-1:]
    return times[-CAP:]


def _lateness(chaos: Chaos, name: str, since: datetime | None = None) -> list[float]:
    rows = chaos.database.rows(
        "SELECT extract(epoch FROM at - nominal_at)::float FROM jobsite_firing WHERE result = 'FIRED'"
        " AND nominal_at > coalesce(%s::timestamptz, '-infinity') ORDER BY 1",
        since,
    )
    found = [float(row[0]) for row in rows]
    if found:
        chaos.figure(f"{name} p50 s", found[len(found) // 2])
        chaos.figure(f"{name} p99 s", found[len(found) * 99 // 100])
        chaos.figure(f"{name} max s", found[-1])
    return found


def _now(chaos: Chaos) -> datetime:
    now = chaos.database.one("SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


@scenario("R22", limit=300)
def two_beats(chaos: Chaos) -> None:
    """Two beats and two workers fire 50 schedules and die meanwhile: each nominal time fires once, none is lost."""
    count = chaos.count(50)
    program = chaos.program("ticked", short=False)
    chaos.fleet.service()
    folder = chaos.installation.folder / "failpoints"
    folder.mkdir()
    plan = {"JOBSITE_FAILPOINTS": POINTS, "JOBSITE_FAILPOINTS_FOLDER": str(folder)}
    _make(chaos, program, "tick", count, "ALL")
    beats = [chaos.fleet.beat(name, environment=plan) for name in ("beat", "beat2")]
    for place in range(2):
        chaos.fleet.worker(f"w{place}", concurrency=2, environment=plan, wait=False)

    def step() -> None:
        chaos.restart_ended_workers()
        for place, beat in enumerate(beats):
            if not beat.is_running:
                chaos.fault("beat died", beat.name)
                beats[place] = chaos.fleet.beat(beat.name, environment=plan)

    chaos.sleep(130, "schedules fire", meanwhile=step)
    until = _now(chaos) - timedelta(seconds=15)
    hits = (folder / "hits").read_text().splitlines() if (folder / "hits").exists() else []
    chaos.report.faults["killed while it fired"] += len(hits)
    chaos.expect(len(hits) >= 4, f"processes died while they fired at least 4 times, not {len(hits)}")
    _stop_schedules(chaos)
    chaos.all_ended(seconds=60, meanwhile=step)
    _look(chaos, "tick", count, until=until)
    _lateness(chaos, "lateness")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")


@scenario("R23", limit=600)
def beat_is_down(chaos: Chaos) -> None:
    """Nothing fires for three minutes, then for ten: missed times are handled by the policy, even without a beat."""
    each = chaos.count(6)
    program = chaos.program("ticked", short=False)
    chaos.fleet.service()
    for missed in POLICIES:
        _make(chaos, program, f"dead-{missed.lower()}", each, missed)
    beat = chaos.fleet.beat()
    worker = chaos.fleet.worker("w0")
    chaos.until(lambda: chaos.database.rows("SELECT 1 FROM jobsite_firing LIMIT 1"), "the first has fired", seconds=80)
    for one in (beat, worker):
        one.kill()
    chaos.fault("beat and worker killed for three minutes")
    chaos.sleep(185, "nothing fires")

    alive_since = _now(chaos)
    worker = chaos.fleet.start("w0")  # no beat runs: only the worker's sweeps fire
    chaos.fleet.wait_until_ready(worker)
    chaos.sleep(65, "a worker fires without beat")
    lateness = [late for late in _lateness(chaos, "without beat", alive_since) if late > 10]
    chaos.expect(not lateness, f"{len(lateness)} times fired more than 10 s late without beat")

    beat = chaos.fleet.beat()
    _freeze(beat, worker)
    chaos.fault("frozen for ten minutes")
    for missed in POLICIES:
        _make(chaos, program, f"frozen-{missed.lower()}", each, missed, ago=timedelta(minutes=10))
    _thaw(beat, worker)
    chaos.until(lambda: chaos.database.number(FROZEN_LEFT) == 0, "the missed times are handled", seconds=30)
    chaos.sleep(3, "the rest of the turn")
    until = _now(chaos) - timedelta(seconds=15)
    _stop_schedules(chaos)
    chaos.all_ended(seconds=60)
    for missed in POLICIES:
        _look(chaos, f"dead-{missed.lower()}", each, until=until)
        _look(chaos, f"frozen-{missed.lower()}", each, until=until)
    missed_rows = chaos.database.number("SELECT count(*) FROM jobsite_firing WHERE result = 'MISSED'")
    chaos.figure("times MISSED", int(missed_rows))
    events = chaos.database.rows("SELECT action, count(*) FROM jobsite_auditentry WHERE target_type = 'schedule' AND"
                                 " actor = 'system' GROUP BY 1 ORDER BY 1")  # fmt: skip
    chaos.figure("events", ", ".join(f"{count} {action}" for action, count in events))
    chaos.expect({"schedule missed", "schedule recovered"} <= {str(row[0]) for row in events}, f"audited: {events}")


FROZEN_LEFT = """
SELECT count(*) FROM jobsite_schedule s WHERE code LIKE 'frozen-%%'
    AND NOT EXISTS (SELECT FROM jobsite_firing f WHERE f.schedule_id = s.id)
""".replace("%%", "%")


@scenario("R30", limit=400)
def ten_thousand(chaos: Chaos) -> None:
    """10,000 schedules fire each minute: each once, 99 % of them within five seconds, with little CPU time."""
    count, minutes = chaos.count(10_000), 2
    program = chaos.program("noop", target="jobsite.samples:noop")
    principal = principals.local(chaos.tenant(), login="chaos")
    schedules.create(principal, "tick-0", Wanted(program.code, minute="*"))
    with connection.cursor() as cursor:
        cursor.execute(MANY, [count])
    connection.close()
    beat = chaos.fleet.beat()
    worker = chaos.fleet.worker("w0")
    before = {one.name: _cpu_seconds(one) for one in (beat, worker)}
    began = time.monotonic()
    since = _now(chaos)
    chaos.fault("due at one moment", count)

    def is_over() -> bool:
        wanted = count * minutes
        return chaos.database.number("SELECT count(*) FROM jobsite_firing WHERE nominal_at > %s", since) >= wanted

    chaos.until(is_over, f"{minutes} minutes have fired", seconds=60 * minutes + 90)
    seconds = time.monotonic() - began
    for one in (beat, worker):
        chaos.figure(f"{one.name}: share of a core", (_cpu_seconds(one) - before[one.name]) / seconds)
    _stop_schedules(chaos)
    chaos.all_ended(seconds=60)
    _by_schedule(chaos, "tick")
    late = _lateness(chaos, "lateness")
    chaos.expect(late[len(late) * 99 // 100] <= 5, f"99 % fired within {late[len(late) * 99 // 100]:.1f} s")
    twice = chaos.database.rows(
        "SELECT schedule_id FROM jobsite_firing GROUP BY schedule_id, nominal_at HAVING count(*) > 1"
    )
    chaos.expect(not twice, f"{len(twice)} times fired twice")
    missing = chaos.database.number("SELECT count(*) FROM jobsite_firing WHERE result <> 'FIRED'")
    chaos.expect(missing == 0, f"{missing:g} times did not fire")


MANY = """
INSERT INTO jobsite_schedule (tenant_id, program_id, code, minute, hour, day_of_month, month, day_of_week, anchor_at,
                              time_zone, parameters, kind, owner, next_at, due_at)
SELECT tenant_id, program_id, 'tick-' || n, minute, hour, day_of_month, month, day_of_week, anchor_at, time_zone,
       parameters, kind, owner, next_at, due_at
FROM jobsite_schedule, generate_series(1, %s - 1) n WHERE code = 'tick-0'
"""


def _stop_schedules(chaos: Chaos) -> None:
    """Stop all schedules, so that the run comes to rest."""
    chaos.database.rows("UPDATE jobsite_schedule SET next_at = NULL, due_at = NULL")


def _freeze(*processes: OwnProcess) -> None:
    for one in processes:
        one.send_all(signal.SIGSTOP)


def _thaw(*processes: OwnProcess) -> None:
    for one in processes:
        one.send_all(signal.SIGCONT)


def _cpu_seconds(process: OwnProcess) -> float:
    """The CPU seconds of the process itself, without its children."""
    parts = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
