"""Two Redis servers, one of which stops: only its own queue is affected."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from jobsite.embedded.daemon import answer
from jobsite.embedded.redis import find_program
from tests.flows.jobs import effects_of, finished, history
from tests.flows.processes import until


class RedisServer:
    """A Redis for the test, without persistence, on a socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"redis+socket://{self.socket}?virtual_host=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [str(find_program()), *options], cwd=self.socket.parent, stdout=subprocess.DEVNULL
        )
        until(lambda: answer(self.socket, b"PING\r\n") == b"+PONG\r\n", "the second Redis answers")

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()


@pytest.fixture
def second_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="jobsite-flow-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        urls = settings.JOBSITE_BROKER_URLS | {"content": server.url}
        with override_settings(JOBSITE_BROKER_URLS=urls):
            yield server
        server.stop()


@pytest.mark.slow
def test_a_broker_that_stops_delays_only_its_own_queue_until_it_is_back(
    define, submit, start_worker, folder, second_redis
):
    environment = {"JOBSITE_BROKER_URL_CONTENT": second_redis.url}
    parameters = {"folder": str(folder)}
    define(code="plain", target="tests.sample_actions:work")
    define(code="content", target="tests.sample_actions:work", queue="content")
    start_worker("default", environment=environment, wait=False)
    typed_by_hand = start_worker("content", environment=environment)
    first = finished(submit("content", parameters))
    assert (first.status, history(first)) == ("COMPLETED", ["SUCCESS"])
    until(lambda: typed_by_hand.has_logged(f"{second_redis.socket}"), "the worker names content's own broker")

    second_redis.stop()
    began = time.monotonic()
    waiting = [submit("content", parameters) for _ in range(5)]
    took = time.monotonic() - began
    others = [finished(submit("plain", parameters), seconds=5) for _ in range(5)]
    assert took / 5 < 3
    assert [job.status for job in others] == ["COMPLETED"] * 5
    for job in waiting:
        job.refresh_from_db()
    assert {job.status for job in waiting} <= {"PENDING", "QUEUED"}

    second_redis.start()
    ended = [finished(job, seconds=30) for job in waiting]

    assert [(job.status, history(job)) for job in ended] == [("COMPLETED", ["SUCCESS"])] * 5
    assert [effects_of(job, folder) for job in [first, *others, *ended]] == [[1]] * 11


@pytest.mark.slow
def test_a_broker_that_hangs_delays_submissions_only_for_seconds(define, submit, start_worker, folder, second_redis):
    environment = {"JOBSITE_BROKER_URL_CONTENT": second_redis.url}
    parameters = {"folder": str(folder)}
    define(code="content", target="tests.sample_actions:work", queue="content")
    start_worker("content", environment=environment)
    finished(submit("content", parameters))

    second_redis.send(signal.SIGSTOP)
    began = time.monotonic()
    job = submit("content", parameters)
    took = time.monotonic() - began
    second_redis.send(signal.SIGCONT)
    ended = finished(job)

    assert took < 7
    assert (ended.status, effects_of(ended, folder)) == ("COMPLETED", [1])
