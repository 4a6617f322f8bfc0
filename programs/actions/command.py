"""The kind `command`: a program of this machine, without a shell, in its own process group.

Its output becomes the job's log line by line. At the time limit or a cancel it gets SIGTERM, two seconds, and
then its whole group is killed. Its memory and its time of the processor may be limited, each process of it by itself.
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
from programs import workers
from programs.actions.base import PermanentError, Step
from programs.actions.templates import render
from programs.job_log import LINE_BYTES
from programs.masking import MASK, Mask

if TYPE_CHECKING:
    from programs.context import Context

GRACE_SECONDS = 2.0
POLL_SECONDS = 0.2
CHUNK = 64 * 1024
KEPT_LINES = 5
# Nothing of the worker's environment (database URL, keys) reaches a command but this.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class CommandFailed(PermanentError):
    """The command ended with another exit status than 0."""

    says_all = True


def run_command(context: "Context", step: Step) -> object:
    """Run the command to its end; its exit status is the result, and another than 0 is a permanent failure."""
    argv = [render(part, context) for part in step.configuration["argv"]]
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {name: render(value, context) for name, value in step.configuration.get("env", {}).items()}
    deadline = min(context.deadline, time.monotonic() + step.timeout)
    with _directory(step.configuration.get("cwd")) as directory:
        process = _start(argv, environment, directory, _limits(step.configuration))
        try:
            tail = _Output(context, process).follow(deadline)
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
        # SIGXCPU, and SIGKILL a second later for those who do not mind it.
        limits.append((resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1)))
    return limits


def _prepared(limits: Limits) -> Callable[[], None]:
    """What the child does before it becomes the command."""
    # A worker that is killed takes its command with it; it cannot do so itself any more.
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
    """End whatever is left of the command, also what it left behind in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _described(argv: list[str], status: int, tail: "deque[str]", configuration: Mapping[str, Any]) -> str:
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    if status == -signal.SIGXCPU and "cpu_time" in configuration:
        ended += f", its {configuration['cpu_time']:g} s of the processor being used up"
    last = f": {tail[-1]}" if tail else ""
    return f"{argv[0]} {ended}{last}"


class _Output:
    """Follows a running command: its output into the log, the requests to stop to its group."""

    def __init__(self, context: "Context", process: subprocess.Popen[bytes]) -> None:
        self._context, self._process = context, process
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._selector = selectors.DefaultSelector()
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, (name, _Lines(context.mask)))
        self._context.stop_hooks.append(self._kill)

    def follow(self, deadline: float) -> "deque[str]":
        """Until the command and its output have ended; raises JobTimeout, JobCanceled, LockLost after stopping it."""
        try:
            stop = self._until_end(deadline)
            if stop is not None:
                self._stop()
                raise stop
            return self._tail
        finally:
            self._context.stop_hooks.remove(self._kill)
            self._selector.close()

    def _until_end(self, deadline: float) -> BaseException | None:
        from programs.context import JobCanceled, JobTimeout, LockLost

        while self._selector.get_map():
            self._read(POLL_SECONDS)
            if time.monotonic() > deadline:
                return JobTimeout()
            try:
                self._context.checkpoint()
            except (JobCanceled, JobTimeout, LockLost) as stop:
                return stop
            if self._process.poll() is not None:
                # It has ended; what it left behind may hold its pipes open for ever.
                self._drain(time.monotonic() + POLL_SECONDS)
                break
        self._process.wait()
        self._end_lines()
        return None

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while self._process.poll() is None and time.monotonic() < end:
            self._read(0.05)
        self._kill()
        self._drain(time.monotonic() + POLL_SECONDS)
        self._end_lines()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _drain(self, until: float) -> None:
        while self._selector.get_map() and time.monotonic() < until:
            if not self._read(0.0):
                return

    def _read(self, timeout: float) -> bool:
        """Log what can be read within `timeout`; whether there was anything."""
        events = self._selector.select(timeout)
        for key, _ in events:
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
            name, lines = key.data
            try:
                chunk = os.read(stream.fileno(), CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                self._selector.unregister(stream)
            for line in lines.add(chunk):
                self._log(name, line)
        if self._context.log.wants_flush:
            with workers.connection().cursor() as cursor:
                self._context.log.flush(cursor)
        return bool(events)

    def _end_lines(self) -> None:
        for key in list(self._selector.get_map().values()):
            name, lines = key.data
            for line in lines.rest():
                self._log(name, line)

    def _log(self, stream: str, line: str) -> None:
        self._tail.append(line)
        self._context.log.write("INFO" if stream == "stdout" else "WARNING", line, stream=stream)


class _Lines:
    """Bytes to lines, holding no more of a line than the log would keep; what `mask` hides is hidden in them."""

    def __init__(self, mask: Mask | None = None) -> None:
        self._mask = mask
        # A secret that begins where the log still reads must be known by its end.
        self._room = LINE_BYTES + (mask.longest if mask else 0)
        self._kept = bytearray()
        self._cut = 0

    def add(self, chunk: bytes) -> Iterator[str]:
        """The lines that are complete with this chunk; an empty chunk ends the stream."""
        if not chunk:
            yield from self.rest()
            return
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._keep(part)
            yield self._take()
        self._keep(rest)

    def rest(self) -> Iterator[str]:
        """The last line, if it had no end."""
        if self._kept or self._cut:
            yield self._take()

    def _keep(self, part: bytes) -> None:
        room = self._room - len(self._kept)
        self._kept += part[:room]
        self._cut += max(0, len(part) - room)

    def _take(self) -> str:
        text = self._kept.removesuffix(b"\r").decode(errors="replace")
        if self._mask:
            text = self._mask.text(text)
            if self._cut:  # perhaps in the middle of a secret, which is not known by its beginning
                hidden, mark, rest = text.rpartition(MASK)
                text = hidden + mark + rest[: -self._mask.longest]
        if self._cut:
            text = f"{text[: LINE_BYTES - 40]} … ({self._cut} bytes cut)"
        self._kept, self._cut = bytearray(), 0
        return text
