"""Keep a few processes running on this machine: restart those that end, stop all of them together."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from jobsite.cli.printing import console
from jobsite.logs import FORMAT_VARIABLE
from jobsite.processes import dying_with_parent

STOP_SECONDS = 40.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
CALM_SECONDS = 60.0
COLOURS = ("cyan", "green", "magenta", "blue", "yellow")


@dataclass(frozen=True)
class Service:
    """One process to keep running."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    service: Service
    process: subprocess.Popen[str]
    began: float
    pause: float = FIRST_PAUSE
    restart_at: float | None = None


class Supervisor:
    """Runs services until `stop`. Their output is printed line by line after their name, or not printed."""

    def __init__(self, services: Sequence[Service], *, is_quiet: bool = False) -> None:
        self._services = services
        self._is_quiet = is_quiet
        self._running: list[_Running] = []
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._width = max((len(service.name) for service in services), default=0)
        self.last_lines: dict[str, list[str]] = {service.name: [] for service in services}

    def start(self) -> None:
        """Start every service. Call it from the main thread: a process ends when the thread that started it does."""
        for service in self._services:
            self._running.append(_Running(service, self._spawn(service), time.monotonic()))

    def attend(self, seconds: float = 0.2) -> None:
        """Print new output and restart what has ended. Returns after about `seconds`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._print(*self._lines.get(timeout=left))
            except queue.Empty:
                break
        for running in self._running:
            self._restart(running)

    @property
    def ended(self) -> list[str]:
        """The names of the services that do not run now."""
        return [running.service.name for running in self._running if running.process.poll() is not None]

    def stop(self) -> None:
        """Ask every service to end, wait for running jobs, and kill what does not end in time."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while any(running.process.poll() is None for running in self._running) and time.monotonic() < end:
            try:
                self._print(*self._lines.get(timeout=0.1))
            except queue.Empty:
                continue
        for running in self._running:
            if running.process.poll() is None:
                os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()

    def _spawn(self, service: Service) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            list(service.argv),
            env={FORMAT_VARIABLE: "lines"} | dict(os.environ) | dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that Ctrl-C reaches only us; we pass it on
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )
        threading.Thread(target=self._read, args=(service.name, process), daemon=True).start()
        return process

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            for line in process.stdout:
                self._lines.put((name, line.rstrip("\n")))

    def _print(self, name: str, line: str) -> None:
        kept = self.last_lines[name]
        kept.append(line)
        del kept[:-20]
        if self._is_quiet or not line.strip():
            return
        colour = COLOURS[[service.name for service in self._services].index(name) % len(COLOURS)]
        console().print(Text(f"{name:<{self._width}} │ ", style=colour) + Text(line), soft_wrap=True)

    def _restart(self, running: _Running) -> None:
        status = running.process.poll()
        now = time.monotonic()
        if status is None:
            return
        if running.restart_at is None:
            running.pause = FIRST_PAUSE if now - running.began > CALM_SECONDS else running.pause
            running.restart_at = now + running.pause
            self._print(running.service.name, f"ended with status {status}; starts again in {running.pause:g} s")
        elif now >= running.restart_at:
            running.process, running.began = self._spawn(running.service), now
            running.pause, running.restart_at = min(running.pause * 2, LONGEST_PAUSE), None


def jobsite(*arguments: str) -> list[str]:
    """The argv of a jobsite command in a process of its own."""
    return [sys.executable, "-m", "jobsite.cli", *arguments]
