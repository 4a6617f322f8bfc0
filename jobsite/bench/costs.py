"""The costs of a job that do not depend on the machine: commits, round trips and messages.

A proxy stands between a contender and PostgreSQL and counts each ReadyForQuery of the protocol. One ReadyForQuery
ends one round trip, however many statements were sent in it; one that says "idle" also ends a transaction.
The messages are the pushes that Redis counts.
"""

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from jobsite.bench.aims import Figure
from jobsite.bench.contenders.base import Contender
from jobsite.bench.ground import Ground
from jobsite.bench.measure import Say, Sizes, Turn

SOCKET_NAME = ".s.PGSQL.5432"
HEADER = 5
READY, IDLE = ord("Z"), ord("I")
BLOCK = 65_536


@dataclass(frozen=True)
class Cost:
    """The costs of one job, on average."""

    commits: float
    round_trips: float
    messages: float


@dataclass
class Counter:
    """Counts the server's messages of one connection. They arrive in blocks that may end inside a message."""

    round_trips: int = 0
    commits: int = 0
    _rest: bytearray = field(default_factory=bytearray)

    def read(self, block: bytes) -> None:
        """Count the messages that this block completes."""
        self._rest += block
        at = 0
        while len(self._rest) - at >= HEADER:
            end = at + 1 + int.from_bytes(self._rest[at + 1 : at + HEADER], "big")
            if end > len(self._rest):
                break
            if self._rest[at] == READY:
                self.round_trips += 1
                self.commits += self._rest[at + HEADER] == IDLE
            at = end
        del self._rest[:at]


class Proxy:
    """Listens on a socket in `folder` and passes everything on to the server's socket."""

    def __init__(self, server: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobsite-proxy-"))
        self._server = server
        self._counters: list[Counter] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / SOCKET_NAME))
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):  # its other end has closed it
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        shutil.rmtree(self.folder)

    @property
    def round_trips(self) -> int:
        return sum(counter.round_trips for counter in self._counters)

    @property
    def commits(self) -> int:
        return sum(counter.commits for counter in self._counters)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed: this is the end
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                self._sockets += [client, server]
                counter = Counter()
                self._counters.append(counter)
                threading.Thread(target=self._pass_on, args=(client, server, None), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, counter), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counter: Counter | None) -> None:
        with contextlib.suppress(OSError):  # either end may close at any time; then both are closed
            while block := source.recv(BLOCK):
                if counter is not None:
                    counter.read(block)
                target.sendall(block)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class CountingTurn(Turn):
    """A turn that counts instead of timing. The agent and the workers reach the database through proxies."""

    def __init__(self, ground: Ground, contender: Contender, sizes: Sizes, *, say: Say) -> None:
        super().__init__(ground, contender, sizes, record=lambda figure, value: None, say=say)
        self.costs: dict[Figure, Cost] = {}
        self._questions = (0, 0)  # commits and round trips of our own queries for finished jobs

    def run(self, figures: frozenset[Figure]) -> None:
        """Count for each of the figures that the contender has."""
        with ExitStack() as stack:
            server = self._ground.servers.postgres_socket
            self._submitter, self._worker = (stack.enter_context(Proxy(server)) for _ in range(2))
            database = self._contender.database or "jobsite"
            self._agent_environment = self._ground.environment(database, host=self._submitter.folder)
            self._worker_environment = self._ground.environment(database, host=self._worker.folder)
            super().run(figures)

    @contextmanager
    def _measured(self, figure: Figure, count: int, *, is_submitted_within: bool) -> Iterator[None]:
        before = self._state(is_submitted_within)
        yield
        after = self._state(is_submitted_within)
        commits, round_trips, messages = (now - then for now, then in zip(after, before, strict=True))
        self.costs[figure] = Cost(commits / count, round_trips / count, messages / count)

    def _state(self, with_submitter: bool) -> tuple[int, int, int]:
        commits, round_trips = self._worker.commits, self._worker.round_trips
        if with_submitter:
            commits += self._submitter.commits - self._questions[0]
            round_trips += self._submitter.round_trips - self._questions[1]
        return commits, round_trips, self._pushes()

    def _finished(self) -> int | None:
        before = self._submitter.commits, self._submitter.round_trips
        finished = super()._finished()
        commits, round_trips = self._questions
        self._questions = (
            commits + self._submitter.commits - before[0],
            round_trips + self._submitter.round_trips - before[1],
        )
        return finished

    def _pushes(self) -> int:
        statistics = self._ground.redis().info("commandstats")
        return sum(int(statistics.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("lpush", "rpush"))
