"""What the embedded servers share: how a process finds, starts, sets up and stops a server."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jobsite.embedded.launcher import REFUSED, Request
from jobsite.embedded.places import EmbeddedError, Servers, try_lock, wait_until

START_SECONDS = 120.0
STOP_SECONDS = 60.0
LEFTOVER_SECONDS = 20.0
ANSWER_SECONDS = 2.0
LAUNCHER = Path(__file__).with_name("launcher.py")
READY = "ready\n"


@dataclass(frozen=True)
class Daemon(ABC):
    """One server of a home.

    All processes of a server hold the lock of its file `running`. The kernel releases it however they end, so neither
    a reused process number nor a server in another container can deceive us. The file's content is READY once
    `finish` is done. Only the holder of the home's lock may call `start` and `stop`.
    """

    places: Servers
    durable: bool = True

    title: ClassVar[str]
    folder: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    @property
    def data(self) -> Path:
        return self.places.home / self.folder

    @property
    def log(self) -> Path:
        return self.places.home / f"{self.folder}.log"

    @property
    def running(self) -> Path:
        return self.places.home / f"{self.folder}.running"

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """The server's own PID file. Its first line is the number of its main process."""

    @property
    @abstractmethod
    def socket_path(self) -> Path:
        """The socket that the server listens on."""

    @abstractmethod
    def accepts(self) -> bool:
        """Whether the server answers requests now."""

    @abstractmethod
    def has_lost_its_socket(self) -> bool:
        """Whether the server runs but its socket has been deleted, so that nobody can reach it any more."""

    @abstractmethod
    def launch(self) -> None:
        """Start the program, after everything that it needs. The launcher refuses if the server runs already."""

    def finish(self) -> None:
        """Make what clients need, once the server answers. May be called again."""
        return

    def is_ready(self) -> bool:
        """Whether the server can be joined: it answers and `finish` is done. Cheap; needs no lock."""
        return self.places.has_sockets() and content(self.running) == READY and self.accepts()

    def is_running(self) -> bool:
        """Whether any process of the server or of its installation is alive."""
        try:
            descriptor = os.open(self.running, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(descriptor)
        finally:
            os.close(descriptor)

    def start(self) -> None:
        """Start the server, or wait for a start that another process has begun, until it can be joined."""
        if self.has_lost_its_socket():
            self.stop()
        self._wait_for_change(START_SECONDS if self.process() else LEFTOVER_SECONDS)
        if not (self.is_running() and self.accepts()):
            self._stop_leftover()
            self.launch()
            self._wait_for_change(START_SECONDS)
        if not self.accepts():
            raise EmbeddedError(f"{self.title} ended while it started. {self._end_of_log()}")
        self.finish()
        self.running.write_text(READY)

    def stop(self) -> bool:
        """Stop the server and wait for its end. Returns whether it ran."""
        if not self.is_running():
            return self._stop_leftover()
        signaled: int | None = None

        def has_ended() -> bool:
            nonlocal signaled
            if signaled is None and (signaled := self.process()):
                self._signal_stop(signaled)
            return not self.is_running()

        if not wait_until(has_ended, STOP_SECONDS):
            raise EmbeddedError(f"{self.title} did not stop within {STOP_SECONDS:.0f} s. {self._end_of_log()}")
        return True

    def _stop_leftover(self) -> bool:
        """Stop a server whose home was deleted but that still has the sockets. Returns whether there was one."""
        number = listener(self.socket_path) if self.places.has_sockets() else None
        if number is None:
            return False
        self._signal_stop(number)
        if not wait_until(lambda: not _command_line(number), STOP_SECONDS):
            raise EmbeddedError(f"process {number}, a {self.title} whose data was deleted, does not stop: kill it.")
        return True

    def _signal_stop(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(number, self.stop_signal)

    def process(self) -> int | None:
        """Return the number of the server's main process; None where it cannot be seen from here."""
        lines = content(self.pid_file).splitlines()
        if not lines or not lines[0].strip().isdigit():
            return None
        number = int(lines[0])
        return number if os.fsencode(self.places.socket_directory) in _command_line(number) else None

    def run(
        self,
        argv: list[str],
        *,
        folder: Path,
        user: tuple[int, int] | None = None,
        detach: bool = False,
    ) -> None:
        """Run a program of the server through the launcher, in `folder` and with the log as its output.

        Returns when it has ended, or with `detach` when it has started.

        Raises:
            EmbeddedError: the launcher refused it, or it ended with an error.
        """
        request: Request = {
            "argv": argv,
            "running": str(self.running),
            "user": user,
            "reach": {"the virtual environment": argv[0], "JOBSITE_HOME": str(folder)},
            "detach": detach,
        }
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            ended = subprocess.run(
                [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environment(),
                start_new_session=True,
                umask=0o077,
                check=False,
            )
        words = ended.stderr.decode(errors="replace").strip()
        if ended.returncode == REFUSED:
            raise EmbeddedError(words)
        if ended.returncode:
            raise EmbeddedError(f"{Path(argv[0]).name} failed: {words or self._end_of_log()}")

    def _wait_for_change(self, seconds: float) -> None:
        """Wait until the server answers or is gone."""
        if not wait_until(lambda: self.accepts() or not self.is_running(), seconds):
            raise EmbeddedError(
                f"{self.title} neither answers nor ends: processes hold {self.running}. They belong to a slow "
                "start, an earlier server or another container. Try again, kill them, or set JOBSITE_HOME to "
                f"another folder. {self._end_of_log()}"
            )

    def _end_of_log(self) -> str:
        lines = content(self.log).splitlines()[-12:]
        return "\n".join([f"The end of {self.log}:", *lines])


def environment() -> dict[str, str]:
    """Return the environment of the servers' programs, without our secrets and our PG… variables."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def answer(path: Path, request: bytes) -> bytes:
    """Return the first bytes of the answer from the socket at `path`; none when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return connection.recv(100)
        except OSError:  # missing, refused, closed or too slow: the server cannot be joined now
            return b""


def listener(path: Path) -> int | None:
    """Return the number of the process that listens at `path`; None where there is none or the system does not say."""
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
        except OSError:  # missing or refused: nobody listens
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    number: int = struct.unpack("3i", credentials)[0]
    return number or None  # 0: a process of another container


def content(file: Path) -> str:
    """Return the file's text; empty when it is missing or not ours."""
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""


def _command_line(process: int) -> bytes:
    """Return the command line of a process; empty when it has ended."""
    if not Path("/proc/self").exists():
        argv = ["ps", "-ww", "-o", "command=", "-p", str(process)]  # a system without /proc, such as macOS
        return subprocess.run(argv, capture_output=True, check=False).stdout
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (
        FileNotFoundError,
        PermissionError,
        ProcessLookupError,
    ):  # it has ended, or it belongs to another user and is hidden
        return b""
