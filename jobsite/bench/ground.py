"""The servers of a run: a durable PostgreSQL and Redis of its own, in a folder that is removed with them."""

import base64
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import redis

from jobsite import embedded
from jobsite.bench import ledger

# Prefer a folder on a disk: /tmp may be in memory, which would make every commit free.
PLACES = (Path("/var/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 - mkdtemp makes a folder of ours in it
SOURCE = Path(__file__).resolve().parents[2]
# The same for all contenders. A checkpoint in the middle of one measurement would favor the others.
SERVER_SETTINGS = {"max_wal_size": "8GB", "checkpoint_timeout": "30min", "shared_buffers": "512MB"}


@dataclass(frozen=True)
class Ground:
    """The servers of this run, and the environment in which a process finds them."""

    servers: embedded.Servers
    folder: Path
    ledger: ledger.Ledger
    secret: str

    def database_url(self, name: str, *, host: Path | None = None) -> str:
        """The URL of the database, or with `host` that of a proxy in front of it."""
        return f"postgresql://jobsite@/{name}?host={quote(str(host or self.servers.socket_directory), safe='')}"

    def environment(self, database: str, *, host: Path | None = None, broker: int = 0) -> dict[str, str]:
        """The whole environment of a process of the benchmark. Nothing of the caller's configuration is in it."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, sys.path)]),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.database_url(database, host=host),
            "JOBSITE_BROKER_URL": self.broker_url(broker),
            "JOBSITE_HOME": str(self.folder),
            "JOBSITE_ACTIONS": "jobsite.bench.bodies.jobsite_actions",
            "JOBSITE_SECRET_KEYS": self.secret,
            "DJANGO_SECRET_KEY": self.secret * 2,
            "DJANGO_ALLOWED_HOSTS": "localhost",
            ledger.VARIABLE: str(self.ledger.path),
        }

    def broker_url(self, number: int) -> str:
        """The URL of Redis's database of this number, in the form that kombu wants."""
        return f"redis+socket://{quote(str(self.servers.redis_socket))}?virtual_host={number}"

    def administer(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection as the server's superuser, in autocommit."""
        host = str(self.servers.socket_directory)
        return psycopg.connect(host=host, user="postgres", dbname=database, autocommit=True)

    def redis(self, number: int = 0) -> "redis.Redis":
        """A client of Redis's database of this number."""
        return redis.Redis(unix_socket_path=str(self.servers.redis_socket), db=number)

    def create_database(self, name: str) -> None:
        """Create the database if it is missing."""
        with self.administer("postgres") as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchall():
                connection.execute(f'CREATE DATABASE "{name}" OWNER jobsite')


@contextmanager
def prepared() -> Iterator[Ground]:
    """Start the servers in a folder of their own. Stop them and remove the folder, whatever happens inside."""
    place = next(path for path in PLACES if os.access(path, os.W_OK | os.X_OK))
    home = Path(tempfile.mkdtemp(prefix="jobsite-bench-", dir=place))
    try:
        servers = embedded.ensure(home / "servers", durable=True)
        (home / "ledger").touch()
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        ground = Ground(servers, home, ledger.Ledger(home / "ledger"), secret)
        with ground.administer("postgres") as connection:
            for name, value in SERVER_SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        yield ground
    finally:
        embedded.down(home / "servers")
        shutil.rmtree(home)
