"""The servers of one chaos run, in a folder of its own: a durable PostgreSQL, one or two Redis, their environment.

Django is imported only after `enter`, which sets the environment that Django's settings are read from.
"""

import base64
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis

from jobsite import embedded
from jobsite.embedded.postgres import Postgres
from jobsite.embedded.redis import Redis

ROOT = Path(__file__).resolve().parents[2]
LOCK_SECONDS, RENEW_SECONDS, SWEEP_SECONDS = 8.0, 2.0, 1.0
MARKER = "JOBSITE_CHAOS"


class Installation:
    """One folder with everything of a run: servers, logs, history, ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = embedded.servers(folder / "home")
        self.second = embedded.servers(folder / "second")
        self.environment = {
            "DATABASE_URL": self.database_url(self.places.socket_directory),
            "JOBSITE_BROKER_URL": self.places.broker_url,
            "JOBSITE_QUEUES": "default,other",
            "JOBSITE_HOME": str(folder / "home"),
            "DJANGO_SETTINGS_MODULE": "jobsite.settings",
            "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
            "DJANGO_ALLOWED_HOSTS": "localhost",
            "JOBSITE_SECRET_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "JOBSITE_ACTIONS": "tests.chaos.actions",
            "JOBSITE_LOCK_SECONDS": f"{LOCK_SECONDS:g}",
            "JOBSITE_RENEW_SECONDS": f"{RENEW_SECONDS:g}",
            "JOBSITE_SWEEP_SECONDS": f"{SWEEP_SECONDS:g}",
            "JOBSITE_CHAOS_SERVICE": str(self.service_socket),
            MARKER: str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
        }

    @property
    def service_socket(self) -> Path:
        """The socket of the outside service. Its path is short enough for a socket."""
        return self.places.socket_directory / "service.sock"

    @staticmethod
    def database_url(directory: Path) -> str:
        """The URL of the run's database through a directory of sockets: the server's, or a proxy's."""
        return f"postgresql://jobsite@/jobsite?host={quote(str(directory), safe='')}"

    def enter(self) -> None:
        """Make the folder and set the environment of this process. Starts nothing."""
        embedded.down(self.folder / "home")
        embedded.down(self.folder / "second")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o711)
        for name in [name for name in os.environ if name.startswith(("JOBSITE_", "PG"))]:
            del os.environ[name]
        os.environ.update(self.environment)

    def start(self) -> None:
        """Start PostgreSQL with durable commits, and Redis."""
        embedded.ensure(self.folder / "home", durable=True)

    def start_second_broker(self) -> str:
        """Start another Redis. Returns its URL."""
        return embedded.ensure(self.folder / "second", postgres=False, durable=True).broker_url

    def stop(self) -> None:
        """Stop all servers cleanly."""
        embedded.down(self.folder / "home")
        embedded.down(self.folder / "second")

    def client(self, *, second: bool = False) -> "redis.Redis[bytes]":
        """A client of a broker that waits at most two seconds for an answer."""
        places = self.second if second else self.places
        return redis.Redis(unix_socket_path=str(places.redis_socket), socket_timeout=2.0)

    def restart_postgres(self, *, down_seconds: float = 0.0) -> None:
        """Stop PostgreSQL in immediate mode, without notice to its clients, and start it after a while."""
        server = Postgres(self.places)
        _end(server.process(), signal.SIGQUIT, server.is_running)
        time.sleep(down_seconds)
        embedded.ensure(self.folder / "home", redis=False)

    def stop_broker(self, *, second: bool = False, forget: bool = True) -> None:
        """Kill Redis by SIGKILL; with `forget` also delete its data on disk."""
        server = Redis(self.second if second else self.places)
        _end(server.process(), signal.SIGKILL, server.is_running)
        if forget:
            shutil.rmtree(server.data)

    def start_broker(self, *, second: bool = False) -> None:
        """Start Redis again."""
        embedded.ensure(self.folder / ("second" if second else "home"), postgres=False)


def _end(pid: int | None, number: signal.Signals, is_running: Callable[[], bool]) -> None:
    assert pid is not None, "the server does not run"
    os.kill(pid, number)
    end = time.monotonic() + 30
    while is_running():
        assert time.monotonic() < end, f"process {pid} does not end"
        time.sleep(0.02)


class Database:
    """Queries of the harness, on a connection of its own that outlives the restarts of the server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None

    def rows(self, query: str, *values: object, seconds: float = 60.0) -> list[tuple]:
        """The rows. Repeats the query for a while when the server is away, so it must be safe to run twice."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._url, autocommit=True, application_name="chaos harness")
                cursor = self._connection.execute(query, list(values) or None)
                return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def one(self, query: str, *values: object) -> object:
        """The first column of the first row."""
        return self.rows(query, *values)[0][0]

    def number(self, query: str, *values: object) -> float:
        """The same as a number; NULL is zero."""
        return float(str(self.one(query, *values) or 0))

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
