"""The processes of a chaos run: workers, beat, submitters and the outside service. Killed workers can be restarted."""

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.installation import MARKER, ROOT, Database, Installation
from tests.chaos.submitter import Kind, Order
from tests.flows.processes import OwnProcess, WorkerProcess, is_alive, session_of, until

BOOT_SECONDS = 60.0


@dataclass
class Placement:
    """How one worker is started, and started again after it has ended."""

    name: str
    queues: tuple[str, ...]
    concurrency: int
    pool: str
    environment: dict[str, str] = field(default_factory=dict)


class Fleet:
    """Starts what a run needs and knows what it has started."""

    def __init__(self, installation: Installation, database: Database) -> None:
        self._installation, self._database = installation, database
        self._placements: dict[str, Placement] = {}
        self._log_starts: dict[int, int] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self.others: list[OwnProcess] = []
        self.past: list[OwnProcess] = []

    def worker(
        self,
        name: str,
        *,
        queues: tuple[str, ...] = ("default",),
        concurrency: int = 2,
        pool: str = "prefork",
        environment: dict[str, str] | None = None,
        wait: bool = True,
    ) -> WorkerProcess:
        """Start a worker, and wait until it consumes."""
        self._placements[name] = Placement(name, queues, concurrency, pool, environment or {})
        started = self.start(name)
        if wait:
            self.wait_until_ready(started)
        return started

    def many_workers(self, count: int, **options: int | str) -> list[WorkerProcess]:
        """Start `count` workers with the same options at once."""
        started = [self.worker(f"w{place}", wait=False, **options) for place in range(1, count + 1)]  # type: ignore[arg-type]
        for one in started:
            self.wait_until_ready(one)
        return started

    def start(self, name: str) -> WorkerProcess:
        """Start a worker again as it was started first."""
        place = self._placements[name]
        if name in self.workers:
            self.past.append(self.workers[name])
        arguments = ["-Q", ",".join(place.queues), "-c", str(place.concurrency), "-P", place.pool, "-l", "INFO"]
        arguments += ["--without-mingle", "--without-gossip"]
        environment = self._installation.environment | place.environment
        log = self._log(name)
        log_start = log.stat().st_size if log.exists() else 0
        started = self.workers[name] = WorkerProcess(name, arguments, environment, log)
        self._log_starts[started.pid] = log_start
        return started

    def wait_until_ready(self, worker: WorkerProcess, *, seconds: float = BOOT_SECONDS) -> None:
        """Wait until it consumes and a signal can stop it. Fails at once when it has ended instead."""

        def is_ready() -> bool:
            assert worker.is_running, f"worker {worker.name} ended while it booted:\n{worker.tail()}"
            text = worker.log.read_bytes()[self._log_starts[worker.pid] :]
            return b" ready." in text and bool(self._database.rows(ALIVE, worker.pid))

        until(is_ready, f"worker {worker.name} is ready", seconds=seconds)

    def restart_ended_workers(self) -> list[str]:
        """Restart the workers that have ended, as a supervisor does. Returns their names."""
        ended = [name for name, worker in self.workers.items() if not worker.is_running]
        for name in ended:
            self.start(name)
        return ended

    def beat(self, name: str = "beat", *, environment: dict[str, str] | None = None) -> OwnProcess:
        """Start Celery's beat with jobsite's scheduler."""
        pidfile = str(self._installation.folder / f"{name}.pid")
        Path(pidfile).unlink(missing_ok=True)  # left by a beat that was killed
        argv = [sys.executable, "-m", "celery", "-A", "jobsite", "beat", "-l", "INFO", "--pidfile", pidfile]
        return self._start(name, argv, environment or {})

    def service(self) -> OwnProcess:
        """Start the outside service."""
        ledger = str(self._installation.folder / "ledger.jsonl")
        started = self._start(
            "service", [sys.executable, "-m", "tests.chaos.service", str(self._installation.service_socket), ledger]
        )
        until(self._installation.service_socket.exists, "the outside service listens")
        return started

    def submitter(
        self, prefix: str, *, count: int, rate: float, tenant: str, kinds: list[Kind], seed: str
    ) -> OwnProcess:
        """Start a submitter of `count` jobs."""
        history = str(self._installation.folder / "history.jsonl")
        order = Order(prefix, count, rate, tenant, seed, history, kinds)
        return self._start(
            f"submitter-{prefix}", [sys.executable, "-m", "tests.chaos.submitter", json.dumps(asdict(order))]
        )

    def _start(self, name: str, argv: list[str], environment: dict[str, str] | None = None) -> OwnProcess:
        started = OwnProcess(name, argv, self._installation.environment | (environment or {}), self._log(name))
        self.others.append(started)
        return started

    def _log(self, name: str) -> Path:
        return self._installation.folder / f"{name}.log"

    def stop_gracefully(self, *, seconds: float = 60.0) -> dict[str, int]:
        """Send SIGTERM to all workers and beat, wait for their end, return their exit statuses. The service goes on."""
        ending: list[OwnProcess] = [
            *self.workers.values(),
            *(one for one in self.others if one.name.startswith("beat")),
        ]
        for one in ending:
            if one.is_running:
                one.send(signal.SIGTERM)
        for one in ending:
            until(lambda one=one: not one.is_running, f"{one.name} has ended after SIGTERM", seconds=seconds)  # type: ignore[misc]
        return {one.name: int(one.process.returncode) for one in ending}

    def strays(self) -> dict[int, str]:
        """The live processes of this run that are in no session of a process that we started and that runs."""
        leaders = {one.pid for one in [*self.workers.values(), *self.others] if one.is_running}
        known = {pid for leader in leaders for pid in session_of(leader)}
        return {pid: line for pid, line in self._marked().items() if pid not in known}

    def _marked(self) -> dict[int, str]:
        marker = f"{MARKER}={self._installation.folder}".encode()
        found: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            with contextlib.suppress(OSError):
                if pid != os.getpid() and marker in (path / "environ").read_bytes().split(b"\0") and is_alive(pid):
                    found[pid] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
        return found

    def kill_everything(self) -> None:
        """Kill every process of the run."""
        for one in [*self.workers.values(), *self.others, *self.past]:
            with contextlib.suppress(AssertionError):
                one.send_all(signal.SIGCONT)
                one.kill()
        for pid in self._marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def logs(self) -> dict[str, str]:
        """The end of each log."""
        return {path.stem: "\n".join(path.read_text(errors="replace").splitlines()[-40:])
                for path in sorted(self._installation.folder.glob("*.log"))}  # fmt: skip


ALIVE = "SELECT 1 FROM jobsite_worker WHERE pid = %s AND status = 'ACTIVE'"
assert ROOT.is_dir()
