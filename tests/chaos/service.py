"""The outside service of the actions, a process of its own. It keeps the ledger and refuses an older fence.

    python -m tests.chaos.service SOCKET LEDGER

Each request is one line of JSON. `begin` and `end` are recorded and get no answer. `write` is accepted while its fence
is the highest that the service has seen for its job, and is answered by "1" or "0". The ledger has the lines in the
order in which the service read them. Lines that a killed process had sent are in it, because the socket outlives the
process. There is no fsync: the faults of the harness end processes, never the machine.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import IO, Any


class Service:
    """The server. It has one thread, so that there is one order of all effects."""

    def __init__(self, path: Path, ledger: IO[str]) -> None:
        self._ledger = ledger
        self._highest: dict[int, int] = {}
        self._rests: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(200)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until killed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._add(self._listener.accept()[0])
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]
            self._ledger.flush()

    def _add(self, client: socket.socket) -> None:
        self._rests[client] = b""
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> None:
        try:
            chunk = client.recv(65536)
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._selector.unregister(client)
            del self._rests[client]
            client.close()
            return
        *lines, self._rests[client] = (self._rests[client] + chunk).split(b"\n")
        for line in lines:
            self._take(client, json.loads(line))

    def _take(self, client: socket.socket, request: dict[str, Any]) -> None:
        highest = self._highest[request["job"]] = max(request["fence"], self._highest.get(request["job"], 0))
        if request["kind"] == "write":
            request["accepted"] = request["fence"] == highest
            # The client may have been killed while it waited. Its write counts all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(b"1\n" if request["accepted"] else b"0\n")
        self._ledger.write(json.dumps(request | {"taken": time.time()}) + "\n")


class Client:
    """An action's connection to the service. A forked child opens its own."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._pid = 0

    def send(self, kind: str, **values: object) -> bool:
        """Send a line. Returns False for a `write` that the service refused."""
        if self._socket is None or self._pid != os.getpid():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.connect(os.environ["JOBSITE_CHAOS_SERVICE"])
            self._pid = os.getpid()
        line = json.dumps({"kind": kind, "at": time.time(), "pid": os.getpid(), **values})
        self._socket.sendall(line.encode() + b"\n")
        return kind != "write" or self._socket.recv(2) == b"1\n"


if __name__ == "__main__":
    with Path(sys.argv[2]).open("a") as file:
        Service(Path(sys.argv[1]), file).serve()
