"""What a scenario works with: the installation, its processes, programs, jobs and faults, and its expectations."""

import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.conf import settings

from jobsite.database import connect
from jobsite.programs.definitions import from_mapping
from jobsite.programs.definitions.registration import load
from jobsite.programs.models import Program
from jobsite.programs.transitions.submit import NewJob, insert
from jobsite.tenants import principals
from jobsite.tenants.models import Tenant
from tests.chaos.fleet import Fleet
from tests.chaos.installation import Database, Installation
from tests.chaos.ledger import History, Ledger
from tests.chaos.submitter import Kind
from tests.flows.processes import OwnProcess

PROGRESS_SECONDS = 5.0
BURST, BURST_SECONDS = 300, 2.0
KEEP_SECONDS = 0.5
KEEP_SHORT = "UPDATE jobsite_program SET measured_runs = 1000, mean_seconds = 0.001 WHERE travels_in_groups"
ENDED = "status IN ('COMPLETED', 'FAILED', 'CANCELED')"


class Broken(AssertionError):
    """The scenario cannot go on: a condition did not become true in time."""


@dataclass
class Report:
    """What a run has shown. `broken` are the expectations that did not hold."""

    scenario: str
    seed: int
    grouped: bool
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    figures: dict[str, float | int | str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    jobs: int = 0
    not_ended: int = 0
    runs_lost: int = 0
    completed_twice: int = 0
    ran_twice: int = 0
    seconds: float = 0.0


class Chaos:
    """One run of one scenario."""

    def __init__(self, installation: Installation, report: Report, *, size: float) -> None:
        self.installation, self.report, self.size = installation, report, size
        self.grouped = report.grouped
        self.random = random.Random(f"{report.scenario} {report.seed}")
        self.database = Database(installation.environment["DATABASE_URL"])
        self.fleet = Fleet(installation, self.database)
        self.ledger = Ledger(installation.folder / "ledger.jsonl")
        self.inserted: set[int] = set()
        self.counts_inserted = True
        self._began = time.monotonic()
        self._said = self._kept = 0.0
        self._say_lock = threading.Lock()
        self._tenants: dict[str, Tenant] = {}

    # ---- set-up -----------------------------------------------------------------------------------------

    def tenant(self, code: str = "acme") -> Tenant:
        """A tenant, made when first asked for."""
        if code not in self._tenants:
            self._tenants[code] = Tenant.objects.create(code=code, name=code)
        return self._tenants[code]

    def program(
        self, code: str, *, target: str = "act", tenant: str = "acme", short: bool = True, **keys: Any
    ) -> Program:
        """A program with one action of tests.chaos.actions. `short`: its jobs form groups in a grouped run."""
        target = target if ":" in target else f"tests.chaos.actions:{target}"
        keys.setdefault("action", [{"kind": "python", "target": target}])
        keys.setdefault("parameters", {"type": "object"})
        keys.setdefault("timeout", "120s")
        keys.setdefault("group", self.grouped and short)
        # Jobs of the harness lose their worker often; R17 tests this limit.
        keys.setdefault("max_worker_losses", 1_000)
        definition = from_mapping({"code": code, **keys}, where="chaos", queues=settings.JOBSITE_QUEUES)
        load(principals.local(self.tenant(tenant), login="chaos"), [definition])
        return Program.objects.get(tenant=self.tenant(tenant), code=code)

    def count(self, wanted: int) -> int:
        """A number of jobs, at the size of this run."""
        return max(1, round(wanted * self.size))

    def submitter(
        self, kinds: list[Kind], *, count: int, rate: float = 0.0, prefix: str = "s", tenant: str = "acme"
    ) -> OwnProcess:
        """Start a process that submits `count` jobs."""
        self.tenant(tenant)
        return self.fleet.submitter(
            prefix, count=count, rate=rate, tenant=tenant, kinds=kinds, seed=f"{self.report.seed} {prefix}"
        )

    def insert(self, program: Program, count: int, parameters: dict[str, Any] | None = None) -> list[int]:
        """Insert `count` PENDING jobs by the statement of submissions, without sending any message."""
        captured = principals.system(program.tenant).captured
        new = NewJob(program.tenant_id, program.pk, json.dumps(parameters or {}), captured)
        numbers: list[int] = []
        with connect(application_name="chaos harness") as connection, connection.cursor() as cursor:
            while len(numbers) < count:
                numbers += [row.number for row in insert(cursor, [new] * min(1_000, count - len(numbers)))]
        self.inserted.update(numbers)
        return numbers

    @contextmanager
    def bursts(self, program: Program) -> Iterator[None]:
        """In a grouped run, insert many short jobs at once every two seconds while the block runs: groups form."""

        def burst() -> None:
            try:
                self.insert(program, BURST)
            except psycopg.OperationalError:
                self.counts_inserted = False  # they may have been inserted or not

        with self.beside(burst, every=BURST_SECONDS) if self.grouped else nullcontext():
            yield

    # ---- what has happened ------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def fault(self, kind: str, detail: object = "") -> None:
        """Note a fault that has happened."""
        self.report.faults[kind] += 1
        self.say(f"{kind} {detail}".rstrip())

    def figure(self, name: str, value: float | int | str) -> None:
        """Note a figure."""
        self.report.figures[name] = round(value, 3) if isinstance(value, float) else value

    def expect(self, holds: bool, sentence: str) -> None:
        """Check something that must hold. Where it does not, the run goes on and fails at the end."""
        if not holds:
            self.report.broken.append(sentence)
            self.say(f"BROKEN {sentence}")

    def say(self, text: str) -> None:
        """Print a line with the time of the run."""
        with self._say_lock:
            sys.stdout.write(f"{self.now:7.1f} s  {self.report.scenario}  {text}\n")
            sys.stdout.flush()

    def restart_ended_workers(self) -> None:
        """Restart the workers that have ended, as a supervisor does."""
        if replaced := self.fleet.restart_ended_workers():
            self.say(f"started again: {', '.join(replaced)}")

    def history(self) -> History:
        """What the submitters know by now."""
        return History.read(self.installation.folder / "history.jsonl")

    def ended(self) -> int:
        """The number of jobs that have ended."""
        return int(self.database.number(f"SELECT count(*) FROM jobsite_job WHERE {ENDED}"))

    def losses(self) -> int:
        """The number of runs that were lost with their worker."""
        return int(self.database.number("SELECT sum(losses) FROM jobsite_job"))

    def statuses(self) -> dict[str, int]:
        """The number of jobs in each status."""
        return dict(self.database.rows("SELECT status, count(*) FROM jobsite_job GROUP BY 1 ORDER BY 1"))  # type: ignore[arg-type]

    # ---- waiting ----------------------------------------------------------------------------------------

    def until(
        self, condition: Callable[[], object], what: str, *, seconds: float, meanwhile: Callable[[], object] = int
    ) -> None:
        """Wait for a condition, and print progress now and then. Raises Broken at the deadline."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Broken(f"after {seconds:g} s still not: {what}; jobs are {self.statuses()}")
            self._say_how_far(what)
            meanwhile()
            time.sleep(0.05)

    def sleep(self, seconds: float, what: str, *, meanwhile: Callable[[], object] = int) -> None:
        """Let time pass, where the passing time is the fault itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._say_how_far(what)
            meanwhile()
            time.sleep(min(0.05, max(0.0, end - time.monotonic())))

    def _keep_short(self) -> None:
        """Keep the short programs of a grouped run marked as short, even if this shared machine runs them slowly."""
        if self.grouped and time.monotonic() - self._kept > KEEP_SECONDS:
            self._kept = time.monotonic()
            self.database.rows(KEEP_SHORT)

    def _say_how_far(self, what: str) -> None:
        self._keep_short()
        if time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            self.say(f"… {what}: {' '.join(f'{name} {count}' for name, count in self.statuses().items())}")

    def all_ended(self, *, seconds: float, meanwhile: Callable[[], object] = int) -> None:
        """Wait until the submitters have ended and every job is terminal."""
        submitters = [one for one in self.fleet.others if one.name.startswith("submitter")]

        def is_over() -> bool:
            if any(one.is_running for one in submitters):
                return False
            return not self.database.rows(f"SELECT 1 FROM jobsite_job WHERE NOT ({ENDED}) LIMIT 1")

        self.until(is_over, "all jobs have ended", seconds=seconds, meanwhile=meanwhile)
        for one in submitters:
            self.expect(one.process.returncode == 0, f"{one.name} ended with {one.process.returncode}")

    @contextmanager
    def beside(self, step: Callable[[], object], *, every: float) -> Iterator[None]:
        """Repeat a step in a thread while the block runs. An exception in it fails the run."""
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.wait(every):
                    step()
            except BaseException as error:
                self.expect(False, f"{getattr(step, '__name__', 'a step')} beside the run: {error!r}")

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
