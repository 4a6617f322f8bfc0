"""The log of a job: in order, bounded, and never a reason to fail."""

import logging
import threading
from datetime import UTC, datetime

import psycopg
import pytest
from django.db import connection

from jobsite.programs.context import job_log
from jobsite.programs.context.job_log import LINE_BYTES, ActionLogHandler, JobLog, capture_logging, close_all
from jobsite.programs.models import JobLogEntry

pytestmark = pytest.mark.django_db


@pytest.fixture
def number(jobs):
    return jobs.running().number


@pytest.fixture
def new_log(number):
    def make(*, attempt=1, is_first_run=True):
        return JobLog(tenant_id=1, number=number, attempt=attempt, is_first_run=is_first_run)

    return make


@pytest.fixture
def log(new_log):
    return new_log()


def stored(number, *columns):
    rows = JobLogEntry.objects.filter(job_number=number).order_by("sequence")
    return list(rows.values_list(*columns, flat=len(columns) == 1))


def waiting(log):
    return [line.message for line in log._lines]


def test_lines_are_stored_in_order_with_all_that_is_known(log, cursor, number):
    before = datetime.now(UTC)
    log.step = "load"
    log.debug("a")
    log.info("b %s", "c")
    log.step = "store"
    log.warning("d")
    log.error("e")
    log.critical("f")
    log.write("INFO", "g", stream="stdout")

    log.flush(cursor)

    assert stored(number, "sequence", "severity", "message", "step", "stream", "attempt") == [
        (1, "DEBUG", "a", "load", "log", 1),
        (2, "INFO", "b c", "load", "log", 1),
        (3, "WARNING", "d", "store", "log", 1),
        (4, "ERROR", "e", "store", "log", 1),
        (5, "CRITICAL", "f", "store", "log", 1),
        (6, "INFO", "g", "store", "stdout", 1),
    ]
    assert all(before <= at <= datetime.now(UTC) for at in stored(number, "at"))


def test_the_numbering_goes_on_from_flush_to_flush_and_from_run_to_run(log, new_log, cursor, number):
    for each in (log, log, new_log(attempt=2, is_first_run=False)):
        each.info("x")
        each.info("y")
        each.flush(cursor)

    assert stored(number, "sequence") == [1, 2, 3, 4, 5, 6]
    assert stored(number, "attempt") == [1, 1, 1, 1, 2, 2]


def test_an_empty_log_costs_nothing(log, django_assert_num_queries):
    with django_assert_num_queries(0), connection.cursor() as cursor:
        log.flush(cursor)
        close_all(cursor, [log])


def test_a_thousand_lines_are_one_statement(log, django_assert_num_queries, number):
    for place in range(1_000):
        log.info("line %d", place)
    assert log.wants_flush

    with django_assert_num_queries(1), connection.cursor() as cursor:
        log.flush(cursor)

    assert not log.wants_flush
    assert stored(number, "message")[-1] == "line 999"


@pytest.mark.parametrize("count", [job_log.COPIED_LINES - 1, job_log.COPIED_LINES], ids=["inserted", "copied"])
def test_few_lines_and_many_are_stored_alike(log, cursor, number, count):
    odd = ["", "\\.", "\\N", "tab\there", "two\nlines\r\n", "back\\slash", "a 'quote'", "\x01\x7f", "ä€😀", "nul \x00"]
    said = [odd[place % len(odd)] for place in range(count)]
    for text in said:
        log.write("INFO", text, stream="stderr")

    log.flush(cursor)

    assert stored(number, "message") == [text.replace("\x00", "\ufffd") for text in said]
    assert stored(number, "sequence") == list(range(1, count + 1))
    assert set(stored(number, "stream")) == {"stderr"}


@pytest.mark.parametrize(
    ("message", "args", "text"),
    [
        ("100 %", (), "100 %"),
        ("%d of %d", (1, 2), "1 of 2"),
        ("%d", ("three",), "%d ('three',)"),
        ("%d", (), "%d"),
        ("no place", (1,), "no place (1,)"),
        ("%s", (ValueError("x"),), "x"),
        (ValueError("x"), (), "x"),
        ("nul\x00 \ud800", (), "nul\ufffd \ufffd"),
    ],
    ids=repr,
)
def test_every_message_becomes_a_line(log, message, args, text):
    log.info(message, *args)

    assert waiting(log) == [text]


class Speechless:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "args"),
    [("%d items", (float("inf"),)), ("%s", (Speechless(),)), (Speechless(), ()), ("%(name)s", ({},))],
    ids=["infinity", "argument", "message", "mapping"],
)
def test_no_line_whatever_it_holds_fails_the_job(log, message, args):
    log.info(message, *args)

    assert len(waiting(log)) == 1


def test_a_long_line_is_cut_with_a_mark(log, cursor, number):
    log.info("é" * LINE_BYTES)

    log.flush(cursor)

    [text] = stored(number, "message")
    assert len(text.encode()) <= LINE_BYTES
    assert text.endswith("bytes cut)")


def test_lines_beyond_the_limit_are_dropped_and_counted_at_the_end_of_the_log(log, cursor, number, monkeypatch):
    monkeypatch.setattr(job_log, "JOB_BYTES", 100)
    for _ in range(30):
        log.info("123456789")

    close_all(cursor, [log])

    messages = stored(number, "message")
    assert messages[:10] == ["123456789"] * 10
    assert messages[10].startswith("20 more lines were dropped")
    assert stored(number, "severity")[10] == "WARNING"


@pytest.mark.django_db(transaction=True)
def test_lines_that_the_database_refused_wait_for_the_next_flush(log, cursor, number, other):
    log.info("kept")
    broken = other.cursor()
    other.close()
    with pytest.raises(psycopg.Error):
        log.flush(broken)

    log.info("too")
    log.flush(cursor)

    assert stored(number, "sequence", "message") == [(1, "kept"), (2, "too")]


def test_many_threads_may_log_at_once(log, cursor, number):
    def speak(name):
        for place in range(200):
            log.info("%s %d", name, place)

    threads = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush(cursor)

    messages = stored(number, "message")
    assert len(messages) == 800
    for name in "abcd":
        own = [message for message in messages if message.startswith(name)]
        assert own == [f"{name} {place}" for place in range(200)]


# ---- standard logging ------------------------------------------------------------------------------------


@pytest.fixture
def logger():
    """A logger such as an action's module has, with the handler of a process that runs jobs."""
    logger = logging.getLogger("tests.an_action")
    handler = ActionLogHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.fixture
def speaking(log):
    """The job runs in this context."""
    token = job_log.current.set(log)
    yield log
    job_log.current.reset(token)


def test_standard_logging_in_an_action_lands_in_the_jobs_log(logger, speaking):
    logger.info("%d rows", 3)
    logging.addLevelName(35, "ODD")
    logger.log(35, "odd")

    assert [(line.severity, line.message) for line in speaking._lines] == [("INFO", "3 rows"), ("INFO", "odd")]


def test_an_exception_is_logged_with_its_traceback(logger, speaking):
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("it broke")

    [text] = waiting(speaking)
    assert text.startswith("it broke\nTraceback")
    assert text.endswith("ZeroDivisionError: division by zero")


def test_a_wrong_logging_call_in_an_action_does_not_fail_it(speaking):
    # Directly to our handler: pytest's own handler raises on such a record.
    record = logging.LogRecord("billing", logging.WARNING, __file__, 1, "%d rows", ("three",), None)
    ActionLogHandler().handle(record)

    assert len(waiting(speaking)) == 1


@pytest.mark.parametrize("name", ["jobsite.programs.actions.container", "jobsite.brokers"])
def test_what_jobsite_says_itself_is_not_the_jobs(speaking, name):
    ActionLogHandler().handle(logging.LogRecord(name, logging.WARNING, __file__, 1, "of job 7", (), None))

    assert waiting(speaking) == []


def test_outside_a_job_nothing_is_captured(logger, log):
    logger.info("nobody's")

    assert waiting(log) == []


def test_another_thread_belongs_to_no_job(logger, speaking):
    thread = threading.Thread(target=logger.info, args=("aside",))
    thread.start()
    thread.join()

    assert waiting(speaking) == []


def test_the_handler_is_installed_once():
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        capture_logging()
        capture_logging()
        assert len([one for one in root.handlers if isinstance(one, ActionLogHandler)]) == 1
    finally:
        root.handlers[:] = before
