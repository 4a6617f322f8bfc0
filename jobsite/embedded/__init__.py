"""The embedded servers: a real PostgreSQL and a real Redis in one folder, for installations that configure none.

Every jobsite process of a folder calls `ensure`. The first starts the servers, the others join them. The servers
outlive all these processes and run until `down`. The folder must be on a local disk, because the servers inherit
its file locks. Nothing runs when this is imported.
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
    prepare_home,
    prepare_sockets,
    servers,
    translated_errors,
)
from jobsite.embedded.postgres import Postgres
from jobsite.embedded.redis import Redis

__all__ = ["EmbeddedError", "Keys", "Servers", "down", "ensure", "in_use", "is_in_use", "keys", "servers"]


def ensure(home: Path, *, postgres: bool = True, redis: bool = True, durable: bool = True) -> Servers:
    """Start or join the servers of `home`; return their addresses, once they answer.

    Joining servers that answer takes no lock and starts no process. A server started without `durable` may lose its
    last writes when the machine crashes (for tests). A server that runs already stays as it is.

    Raises:
        EmbeddedError: a server is not installed, does not start, or `home` belongs to another user.
    """
    places = servers(home)
    wanted: list[Daemon] = []
    if postgres:
        wanted.append(Postgres(places, durable=durable))
    if redis:
        wanted.append(Redis(places, durable=durable))
    with translated_errors(places.home):
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
    """Stop the running servers of `home`, cleanly and without waiting for their clients; return their names.

    Raises:
        EmbeddedError: a server does not stop, or `home` belongs to another user.
    """
    places = servers(home)
    with translated_errors(places.home):
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
