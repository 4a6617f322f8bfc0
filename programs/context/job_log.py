"""The log of a job on its way to the database: batched, in order, bounded. It never fails the job."""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

from jobsite.database import Cursor
from jobsite.values import storable
from jobsite.values.masking import Mask

LINE_BYTES = 8 * 1024
JOB_BYTES = 64 * 1024 * 1024
SEVERITIES = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FLUSH_LINES = 1_000


class Line(NamedTuple):
    """One log entry before it is numbered."""

    at: datetime
    severity: str
    message: str
    step: str
    stream: str


INSERT = """
INSERT INTO jobsite_joblogentry (tenant_id, job_number, attempt, sequence, at, step, stream, severity, message)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::integer[], %s::bigint[], %s::timestamptz[], %s::text[], %s::text[],
                     %s::text[], %s::text[])
"""

# Many lines are written by COPY, at a third of the cost; a few are not, since COPY takes more round trips.
COPY = """
COPY jobsite_joblogentry (tenant_id, job_number, attempt, sequence, at, step, stream, severity, message) FROM STDIN
"""
COPIED_LINES = 200


class JobLog:
    """The log of one run. Any thread may write; whoever has a cursor flushes."""

    def __init__(
        self, *, tenant_id: int, number: int, attempt: int, is_first_run: bool, mask: Mask | None = None
    ) -> None:
        self.step = ""
        self.mask = mask
        self._tenant_id, self._number, self._attempt = tenant_id, number, attempt
        self._sequence: int | None = 0 if is_first_run else None
        self._lines: list[Line] = []
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._flushing = threading.Lock()

    def debug(self, message: str, *args: object) -> None:
        """Log at DEBUG; `%`-style arguments as in `logging`."""
        self.write("DEBUG", message, *args)

    def info(self, message: str, *args: object) -> None:
        """Log at INFO."""
        self.write("INFO", message, *args)

    def warning(self, message: str, *args: object) -> None:
        """Log at WARNING. The job's outcome does not change; `context.warn` changes it."""
        self.write("WARNING", message, *args)

    def error(self, message: str, *args: object) -> None:
        """Log at ERROR."""
        self.write("ERROR", message, *args)

    def critical(self, message: str, *args: object) -> None:
        """Log at CRITICAL."""
        self.write("CRITICAL", message, *args)

    def write(self, severity: str, message: object, *args: object, stream: str = "log") -> None:
        """Add one line. Beyond 64 MiB a job's lines are dropped, and the last line says how many."""
        text = storable.text(_in_words(message, args), limit=LINE_BYTES, mask=self.mask)
        with self._lock:
            size = len(text.encode()) + 1
            if self._bytes + size > JOB_BYTES:
                self._dropped += 1
                return
            self._bytes += size
            self._lines.append(Line(datetime.now(UTC), severity, text, self.step[:100], stream))

    @property
    def wants_flush(self) -> bool:
        """Whether enough lines wait that they should be written now."""
        return len(self._lines) >= FLUSH_LINES

    def flush(self, cursor: Cursor) -> None:
        """Write the lines that wait, in order. Where the database refuses them they stay, and the error is raised."""
        _flush(cursor, [self])

    @property
    def has_lines(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._lines or self._dropped)

    def _end(self) -> None:
        """Add the number of dropped lines, as the last line."""
        if self._dropped:
            text = f"{self._dropped} more lines were dropped: a job's log holds {JOB_BYTES // 2**20} MiB"
            with self._lock:
                self._lines.append(Line(datetime.now(UTC), "WARNING", text, self.step[:100], "log"))
                self._dropped = 0  # one line is enough, also where the log must be written again

    def _numbered(self, cursor: Cursor) -> list[tuple[object, ...]]:
        """The rows of all lines that wait. The caller holds `_flushing` from here to `_forget`."""
        with self._lock:
            lines = list(self._lines)
        if lines and self._sequence is None:
            self._sequence = _last_sequence(cursor, self._number)
        mine = (self._tenant_id, self._number, self._attempt)
        return [
            (*mine, sequence, line.at, line.step, line.stream, line.severity, line.message)
            for sequence, line in enumerate(lines, start=(self._sequence or 0) + 1)
        ]

    def _forget(self, count: int) -> None:
        """Drop the oldest lines, which have been written."""
        if count:
            self._sequence = (self._sequence or 0) + count
            with self._lock:
                del self._lines[:count]


def close_all(cursor: Cursor, logs: Sequence[JobLog]) -> None:
    """Flush the logs of runs that have ended, all in one statement. Each ends with the number of dropped lines."""
    ending = [one for one in logs if one.has_lines]
    for one in ending:
        one._end()
    if ending:
        _flush(cursor, ending)


def _flush(cursor: Cursor, logs: Sequence[JobLog]) -> None:
    with ExitStack() as stack:
        for one in logs:
            stack.enter_context(one._flushing)
        rows = [one._numbered(cursor) for one in logs]
        if sum(map(len, rows)) >= COPIED_LINES:
            with cursor.copy(COPY) as copy:
                for row in chain.from_iterable(rows):
                    copy.write_row(row)
        elif any(rows):
            cursor.execute(INSERT, [list(column) for column in zip(*chain.from_iterable(rows), strict=True)])
        for one, written in zip(logs, rows, strict=True):
            one._forget(len(written))


def _in_words(message: object, args: object) -> str:
    # An action never fails because of what it logs, however wrong: a __str__ of its own may raise anything.
    try:
        text = str(message)
    except Exception:
        return f"<{type(message).__name__} that cannot be shown>"
    try:
        return text % args if args else text
    except Exception:
        return f"{text} {_shown(args)}"


def _shown(args: object) -> str:
    try:
        return repr(args)
    except Exception:
        return "<arguments that cannot be shown>"


def _last_sequence(cursor: Cursor, number: int) -> int:
    cursor.execute("SELECT coalesce(max(sequence), 0) FROM jobsite_joblogentry WHERE job_number = %s", [number])
    return int(cursor.fetchone()[0])


OWN_LOGGERS = ("jobsite.",)
current: ContextVar[JobLog | None] = ContextVar("job_log", default=None)


class ActionLogHandler(logging.Handler):
    """Writes what an action logs by the standard `logging` into the job's log as well.

    What jobsite itself logs is left out: it is meant for operators, and may be about other jobs.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Add the record to the log of the job that runs in this context, if one does."""
        job_log = current.get()
        if job_log is None or record.name.startswith(OWN_LOGGERS):
            return
        text = _in_words(record.msg, record.args or ())
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        severity = record.levelname if record.levelname in SEVERITIES else "INFO"
        job_log.write(severity, text)


def capture_logging() -> None:
    """Install the handler on the root logger of a process that runs jobs, and mask the records of all handlers."""
    root = logging.getLogger()
    if not any(isinstance(handler, ActionLogHandler) for handler in root.handlers):
        root.addHandler(ActionLogHandler())
    if not isinstance(logging.getLogRecordFactory(), _MaskedRecords):
        logging.setLogRecordFactory(_MaskedRecords(logging.getLogRecordFactory()))


class _MaskedRecords:
    """Makes records as before, but hides the secrets of the job that runs in this context from every handler."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        job_log = current.get()
        if job_log is not None and job_log.mask is not None:
            _hide(record, job_log.mask)
        return record


def _hide(record: logging.LogRecord, mask: Mask) -> None:
    # An error is kept as masked text: a handler that formatted it itself would show the secrets.
    error = _error_of(record.exc_info)
    if isinstance(record.msg, dict):  # an event of structlog, which the handlers turn into text
        event = dict(record.msg)
        found = event.pop("exc_info", None)
        error = error or _error_of(found)
        plain = {key: one if _is_plain(one) else _in_words(one, ()) for key, one in event.items()}
        record.msg = mask.value(plain | ({"exception": error} if error else {}))
    else:
        text = _in_words(record.msg, record.args or ())
        record.msg = mask.text(f"{text}\n{error}" if error else text)
    record.args, record.exc_info = None, None


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (str, bool, int, float, dict, list))


def _error_of(found: Any) -> str:
    if not found:
        return ""
    if isinstance(found, BaseException):
        found = (type(found), found, found.__traceback__)
    return logging.Formatter().formatException(found if isinstance(found, tuple) else sys.exc_info())
