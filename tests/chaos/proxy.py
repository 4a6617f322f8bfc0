"""A network that fails: a proxy for PostgreSQL and Redis, on a TCP port or a Unix socket, without root."""

import asyncio
import contextlib
import threading
from pathlib import Path

CHUNK = 65536


class Proxy:
    """Forwards connections to a Unix socket. What it does with them can be changed at any time.

    `pass_on` forwards. `black_hole` keeps connections open and delivers nothing until `pass_on`; then it delivers all,
    as a network does that sends lost packets again. `reset` cuts all connections, and every new one, with RST on TCP.
    `half_open` closes the server's side of open connections and lets the client wait for ever. `delay` holds back
    each piece, in seconds.
    """

    def __init__(self, upstream: Path, *, listen: Path | None = None) -> None:
        self._upstream, self._listen = upstream, listen
        self._delay = 0.0
        self._is_reset = False
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0
        self.connections = 0
        self.swallowed = 0
        threading.Thread(target=self._loop.run_forever, daemon=True, name="chaos-proxy").start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> None:
        if self._listen is not None:
            self._listen.parent.mkdir(mode=0o700, exist_ok=True)
            self._listen.unlink(missing_ok=True)
            await asyncio.start_unix_server(self._serve, str(self._listen))
        else:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]

    def pass_on(self) -> None:
        """Forward everything again."""
        self._set(is_open=True)

    def black_hole(self) -> None:
        """Deliver nothing, and keep the connections open."""
        self._set(is_open=False)

    def reset(self) -> None:
        """Cut all connections, and every new one."""
        self._set(is_open=True, is_reset=True)
        self._loop.call_soon_threadsafe(lambda: [pair.cut() for pair in list(self._pairs)])

    def half_open(self) -> None:
        """Let the clients of open connections wait for ever; new connections work."""
        self._set(is_open=True)
        self._loop.call_soon_threadsafe(lambda: [pair.forget_client() for pair in list(self._pairs)])

    def delay(self, seconds: float) -> None:
        """Forward each piece `seconds` later."""
        self._set(is_open=True, delay=seconds)

    def _set(self, *, is_open: bool, is_reset: bool = False, delay: float = 0.0) -> None:
        def change() -> None:
            self._is_reset, self._delay = is_reset, delay
            if is_open:
                self._open.set()
            else:
                self._open.clear()

        self._loop.call_soon_threadsafe(change)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_reset:
            writer.transport.abort()
            return
        await self._wait()
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self._upstream))
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, up_writer)
        self._pairs.add(pair)
        there = asyncio.create_task(self._pump(reader, up_writer, pair))
        back = asyncio.create_task(self._pump(up_reader, writer, pair))
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if pair.is_forgotten:
            await there  # until the client itself gives up
        pair.cut()
        self._pairs.discard(pair)
        await asyncio.wait({there, back})

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: "_Pair") -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                if pair.is_forgotten:
                    self.swallowed += len(data)
                    continue
                writer.write(data)
                await writer.drain()

    async def _wait(self) -> None:
        if not self._open.is_set():
            self.swallowed += 1
            await self._open.wait()


class _Pair:
    """The two connections of one client."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client, self._server = client, server
        self.is_forgotten = False

    def cut(self) -> None:
        for writer in (self._client, self._server):
            writer.transport.abort()

    def forget_client(self) -> None:
        self.is_forgotten = True
        self._server.transport.abort()
