"""The output of a command or container, written line by line into the job's log."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.context.job_log import LINE_BYTES
from jobsite.values.masking import MASK, Mask

if TYPE_CHECKING:
    from jobsite.programs.context import Context

log = get_logger(__name__)

KEPT_LINES = 5


class Output:
    """The two output streams of a command or container; `tail` holds the last lines."""

    def __init__(self, context: "Context") -> None:
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._context = context
        self._streams = {name: Lines(context.mask) for name in ("stdout", "stderr")}

    def add(self, stream: str, chunk: bytes) -> None:
        """Log the lines that are complete with this chunk; an empty chunk ends the stream."""
        for line in self._streams[stream].add(chunk):
            self._log(stream, line)
        if self._context.log.wants_flush:
            self._flush()

    def _flush(self) -> None:
        try:
            with workers.connection().cursor() as cursor:
                self._context.log.flush(cursor)
        except psycopg.Error as error:
            # A log never fails its job: lines that could not be written are kept for the next flush.
            log.warning("log_kept", job=self._context.job_number, error=str(error))
            workers.drop_connection()

    def end(self) -> None:
        """Log the last line of each stream if no line break ended it."""
        for name, lines in self._streams.items():
            for line in lines.rest():
                self._log(name, line)

    def _log(self, stream: str, line: str) -> None:
        self.tail.append(line)
        self._context.log.write("INFO" if stream == "stdout" else "WARNING", line, stream=stream)


class Lines:
    """Splits bytes into lines. It holds no more of a line than the log keeps, and hides what `mask` hides."""

    def __init__(self, mask: Mask | None = None) -> None:
        self._mask = mask
        # A secret that begins within the logged part must fit whole, or the mask does not recognize it.
        self._room = LINE_BYTES + (mask.longest if mask else 0)
        self._kept = bytearray()
        self._cut = 0

    def add(self, chunk: bytes) -> Iterator[str]:
        """The lines that are complete with this chunk; an empty chunk ends the stream."""
        if not chunk:
            yield from self.rest()
            return
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._keep(part)
            yield self._take()
        self._keep(rest)

    def rest(self) -> Iterator[str]:
        """The last line, if no line break ended it."""
        if self._kept or self._cut:
            yield self._take()

    def _keep(self, part: bytes) -> None:
        room = self._room - len(self._kept)
        self._kept += part[:room]
        self._cut += max(0, len(part) - room)

    def _take(self) -> str:
        text = self._kept.removesuffix(b"\r").decode(errors="replace")
        if self._mask:
            text = self._mask.text(text)
            if self._cut:  # perhaps in the middle of a secret, which the mask does not recognize by its beginning
                hidden, mark, rest = text.rpartition(MASK)
                text = hidden + mark + rest[: -self._mask.longest]
        if self._cut:
            text = f"{text[: LINE_BYTES - 40]} … ({self._cut} bytes cut)"
        self._kept, self._cut = bytearray(), 0
        return text
