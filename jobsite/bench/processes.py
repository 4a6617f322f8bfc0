"""The processes of a run: workers and agents are started, stopped for a while, measured, and always ended."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobsite.errors import Refusal
from jobsite.processes import dying_with_parent

ANSWER_SECONDS = 600.0
KIB = 1024


class BenchError(Refusal):
    """The benchmark cannot go on. The message names the contender and has the end of its log."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bench_failed")


@dataclass(frozen=True)
class Launch:
    """How one process is started: argv without the interpreter, and additions to its environment."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """The memory of a worker with all its children, in bytes. `pss` counts shared pages once."""

    rss: int
    pss: int
    processes: int


def until(condition: Callable[[], bool], what: str, *, seconds: float, pause: float = 0.005) -> None:
    """Wait for the condition. Raises BenchError, which names `what`, after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"after {seconds:g} s still not: {what}")
        time.sleep(pause)


def spawn(
    launch: Launch, environment: Mapping[str, str], log: Path, *, with_pipes: bool = False
) -> subprocess.Popen[str]:
    """Start a process in a session of its own. It ends with us, however we end."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *launch.argv],
            cwd=log.parent,
            env={**environment, **launch.environment},
            stdin=subprocess.PIPE if with_pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if with_pipes else output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGKILL),
        )


def end(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session, and wait until it is gone."""
    for pid in {process.pid, *session_of(process.pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def session_of(leader: int) -> list[int]:
    """The living processes of a session; none where the system has no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
            if session == str(leader) and state not in ("Z", "X"):
                found.append(int(path.parent.name))
    return found


class Workers:
    """The worker processes of one contender, started together."""

    def __init__(self, title: str, launches: Sequence[Launch], environment: Mapping[str, str], folder: Path) -> None:
        self._title = title
        self._log = folder / "workers.log"
        self._log.write_text("")
        self._processes = [spawn(launch, environment, self._log) for launch in launches]

    def check(self) -> None:
        """Raise BenchError when one has ended."""
        for process in self._processes:
            if process.poll() is not None:
                raise BenchError(f"a worker of {self._title} ended with status {process.poll()}: {tail(self._log)}")

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to every process of every worker."""
        for process in self._processes:
            for pid in session_of(process.pid) or [process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def memory(self) -> Memory | None:
        """What they use now; None where the system does not say."""
        pids = [pid for process in self._processes for pid in session_of(process.pid)]
        rss = pss = 0
        for pid in pids:
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            except OSError:
                return None
            sizes = {line.split(":")[0]: int(line.split()[1]) * KIB for line in lines}
            rss, pss = rss + sizes["Rss"], pss + sizes["Pss"]
        return Memory(rss, pss, len(pids)) if pids else None

    def kill(self) -> None:
        """End all of them."""
        for process in self._processes:
            end(process)


class Agent:
    """A process that calls one contender as its users do. Each call has one answer."""

    def __init__(self, title: str, launch: Launch, environment: Mapping[str, str], folder: Path) -> None:
        self._title = title
        self._log = folder / "agent.log"
        self._log.write_text("")
        self._process = spawn(launch, environment, self._log, with_pipes=True)

    def call(self, do: str, **arguments: Any) -> Any:
        """Let the agent do something. Returns its answer."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("an agent has pipes")
        with contextlib.suppress(BrokenPipeError):  # its log, below, says why it ended
            self._process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise BenchError(f"{self._title}: {do} {'ended' if ready else 'takes too long'}: {tail(self._log)}")
        return json.loads(line)

    def kill(self) -> None:
        """End it."""
        end(self._process)


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
