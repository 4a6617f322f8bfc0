"""Processes that tests start, mostly Celery workers: start them, wait for them, signal them, and end them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jobsite.programs.models import Worker

ROOT = Path(__file__).resolve().parents[2]
BOOT_SECONDS = 40.0
Value = TypeVar("Value")


def until(condition: Callable[[], Value], what: str, *, seconds: float = 20.0) -> Value:
    """Wait for the first true value of `condition`, asked every 20 ms. Fails with `what` at the deadline."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process is alive. One that has ended and was not reaped by its parent is not."""
    return _status(pid)[:1] not in ([], ["Z"], ["X"])


def session_of(leader: int) -> list[int]:
    """The live processes of a session."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if is_alive(pid) and _status(pid)[3:4] == [str(leader)]]


def running_with(marker: str) -> list[int]:
    """The live processes that have `marker` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return [pid for pid in found if is_alive(pid)]


def _status(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on: state, parent, group, session …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class OwnProcess:
    """A process in a session of its own, with its output in a log."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the main process only."""
        os.kill(self.pid, number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to the main process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it and all its children, and wait for their end."""
        self.send_all(signal.SIGKILL)
        self.process.wait()
        until(lambda: not session_of(self.pid), f"all of {self.name} is gone", seconds=10)

    def wait_for_end(self, *, seconds: float = 20.0) -> int:
        """Wait until it has ended, with all its children. Returns its exit status."""
        until(lambda: not self.is_running, f"{self.name} has ended", seconds=seconds)
        until(lambda: not session_of(self.pid), f"the children of {self.name} are gone", seconds=10)
        return int(self.process.returncode)

    def has_logged(self, words: str) -> bool:
        """Whether these words are in its log now."""
        return words in self.log.read_text(errors="replace")

    def tail(self, lines: int = 150) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class WorkerProcess(OwnProcess):
    """One `celery -A jobsite worker`, with its pool."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        argv = [sys.executable, "-m", "celery", "-A", "jobsite", "worker", "-n", f"{name}@flows", *arguments]
        super().__init__(name, argv, environment, log)

    @property
    def row(self) -> Worker:
        """Its row in the database."""
        return Worker.objects.get(pid=self.pid)

    def wait_until_ready(self) -> "WorkerProcess":
        """Wait until it is registered. Fails at once when it has ended instead."""

        def is_ready() -> bool:
            assert self.is_running, f"worker {self.name} ended while it booted:\n{self.tail()}"
            return Worker.objects.filter(pid=self.pid, status="ACTIVE").exists()

        until(is_ready, f"worker {self.name} is ACTIVE", seconds=BOOT_SECONDS)
        return self
