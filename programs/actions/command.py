"""The kind `command`: a program of this machine, without a shell, in its own process group.

Its output becomes the job's log, line by line. At the time limit or on a cancel its group gets SIGTERM, and two seconds
later it is killed. Memory and CPU time may be limited; the limits count for each process of the group by itself.
"""

import math
import os
import resource
import selectors
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from jobsite.processes import dying_with_parent
from jobsite.programs.actions.base import stop_wanted
from jobsite.programs.actions.output import Output
from jobsite.programs.actions.templates import render
from jobsite.programs.context import PermanentError, Step

if TYPE_CHECKING:
    from jobsite.programs.context import Context

GRACE_SECONDS = 2.0
POLL_SECONDS = 0.2
CHUNK = 64 * 1024
# Only these variables of the worker's environment reach a command: others hold the database URL and keys.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class CommandFailed(PermanentError):
    """The command ended with an exit status other than 0."""

    says_all = True


def run_command(context: "Context", step: Step) -> object:
    """Run the command to its end. Its exit status is the result; a status other than 0 is a permanent failure."""
    argv = [render(part, context) for part in step.configuration["argv"]]
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {name: render(value, context) for name, value in step.configuration.get("env", {}).items()}
    deadline = min(context.deadline, time.monotonic() + step.timeout)
    with _directory(step.configuration.get("cwd")) as directory:
        process = _start(argv, environment, directory, _limits(step.configuration))
        try:
            tail = _Running(context, process).follow(deadline)
        finally:
            _kill_group(process)
    if process.returncode:
        raise CommandFailed(_described(argv, process.returncode, tail, step.configuration))
    return {"exit_code": process.returncode}


@contextmanager
def _directory(configured: str | None) -> Iterator[str]:
    if configured:
        yield configured
        return
    with tempfile.TemporaryDirectory(prefix="jobsite-command-") as made:
        yield made


Limits = list[tuple[int, tuple[int, int]]]
"""What setrlimit takes: which limit, and its soft and hard value."""


def _limits(configuration: Mapping[str, Any]) -> Limits:
    limits = []
    if memory := configuration.get("memory"):
        limits.append((resource.RLIMIT_AS, (memory, memory)))
    if seconds := configuration.get("cpu_time"):
        # SIGXCPU, and SIGKILL a second later for a process that ignores it.
        limits.append((resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1)))
    return limits


def _prepared(limits: Limits) -> Callable[[], None]:
    """What the child does before it becomes the command."""
    # The kernel kills the command when its worker is killed, since the worker itself cannot do so then.
    tie = dying_with_parent(signal.SIGKILL)

    def prepare() -> None:
        if tie:
            tie()
        for limit, values in limits:
            resource.setrlimit(limit, values)

    return prepare


def _start(argv: list[str], environment: Mapping[str, str], directory: str, limits: Limits) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
            preexec_fn=_prepared(limits),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise PermanentError(f"cannot start {argv[0]!r}: {error}") from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the command, and every other process in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _described(argv: list[str], status: int, tail: "deque[str]", configuration: Mapping[str, Any]) -> str:
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    if status == -signal.SIGXCPU and "cpu_time" in configuration:
        ended += f" after it used up its {configuration['cpu_time']:g} s of CPU time"
    last = f": {tail[-1]}" if tail else ""
    return f"{argv[0]} {ended}{last}"


class _Running:
    """Follows a running command: writes its output to the log and passes requests to stop to its group."""

    def __init__(self, context: "Context", process: subprocess.Popen[bytes]) -> None:
        self._context, self._process = context, process
        self._output = Output(context)
        self._selector = selectors.DefaultSelector()
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, name)
        self._context.stop_hooks.append(self._kill)

    def follow(self, deadline: float) -> "deque[str]":
        """Wait until the command and its output end; raise JobTimeout, JobCanceled or LockLost after stopping it."""
        try:
            stop = self._until_end(deadline)
            if stop is not None:
                self._stop()
                raise stop
            return self._output.tail
        finally:
            self._context.stop_hooks.remove(self._kill)
            self._selector.close()

    def _until_end(self, deadline: float) -> BaseException | None:
        while self._selector.get_map():
            self._read(POLL_SECONDS)
            if stop := stop_wanted(self._context, deadline):
                return stop
            if self._process.poll() is not None:
                # It has ended, but a process that it left behind may hold its pipes open for ever.
                self._drain(time.monotonic() + POLL_SECONDS)
                break
        self._process.wait()
        self._output.end()
        return None

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        self._kill()
        self._drain(time.monotonic() + POLL_SECONDS)
        self._output.end()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _drain(self, until: float) -> None:
        while self._selector.get_map() and time.monotonic() < until:
            if not self._read(0.0):
                return

    def _read(self, timeout: float) -> bool:
        """Log what can be read within `timeout`; return whether there was anything."""
        events = self._selector.select(timeout)
        for key, _ in events:
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
            try:
                chunk = os.read(stream.fileno(), CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                self._selector.unregister(stream)
            self._output.add(key.data, chunk)
        return bool(events)
