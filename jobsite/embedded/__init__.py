"""The embedded servers: a real PostgreSQL and a real Redis under one folder, for whoever configured none.

Every jobsite process of a folder calls `ensure`: the first starts the servers, the others join them, and the
servers outlive them all until `down`. The folder must be on a local disk, because its locks are passed on to
the servers. Nothing runs when this is imported.
"""

import shutil
from pathlib import Path

from jobsite.embedded.daemon import Daemon
from jobsite.embedded.key_file import Keys, keys
from jobsite.embedded.places import (
    EmbeddedError,
    Servers,
    check_owner,
    in_use,
    is_in_use,
    locked,
    one_sentence,
    prepare_home,
    prepare_sockets,
    servers,
)
from jobsite.embedded.postgres import Postgres
from jobsite.embedded.redis import Redis

__all__ = ["EmbeddedError", "Keys", "Servers", "down", "ensure", "in_use", "is_in_use", "keys", "servers"]


def ensure(home: Path, *, postgres: bool = True, redis: bool = True, durable: bool = True) -> Servers:
    """Start or join the servers of `home`; return where they are, once they answer.

    To join servers that answer takes no lock and starts no process. A server started without `durable` may
    lose its last writes with the machine (for tests); a server that runs already stays as it is.

    Raises:
        EmbeddedError: a server is not installed, does not come up, or `home` belongs to somebody else.
    """
    places = servers(home)
    wanted: list[Daemon] = []
    if postgres:
        wanted.append(Postgres(places, durable=durable))
    if redis:
        wanted.append(Redis(places, durable=durable))
    with one_sentence(places.home):
        if all(daemon.is_ready() for daemon in wanted):
            return places
        prepare_home(places.home)
        with locked(places.home):
            prepare_sockets(places)
            for daemon in wanted:
                if not daemon.is_ready():
                    daemon.start()
    return places


def down(home: Path) -> list[str]:
    """Stop the servers of `home` that run, cleanly and without waiting for their clients; return their names.

    Raises:
        EmbeddedError: a server does not stop, or `home` belongs to somebody else.
    """
    places = servers(home)
    with one_sentence(places.home):
        if not places.home.exists():
            return _stop_all(places)  # the servers may have outlived their home
        check_owner(places.home)
        with locked(places.home):
            return _stop_all(places)


def _stop_all(places: Servers) -> list[str]:
    stopped = [daemon.title for daemon in (Postgres(places), Redis(places)) if daemon.stop()]
    if places.has_sockets():
        shutil.rmtree(places.socket_directory)
    return stopped
