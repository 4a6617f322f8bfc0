"""The process that calls one contender: it reads one call per line on stdin and answers with one line on stdout.

Started as `python -m jobsite.bench.agent NAME`; ends with its driver.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from jobsite.bench import contenders, limits
from jobsite.bench.contenders.base import Client

LIMITS = "limits"


class Speaker:
    """What the driver may ask for."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def calls(self) -> dict[str, Callable[..., Any]]:
        """The calls by their name."""
        return {
            "submit": self.submit,
            "fill": self.fill,
            "pick_up": self.pick_up,
            "chatter": self._client.chatter,
            "clear": self._client.clear,
            "finished": self._client.finished,
            "is_warm": self._client.is_warm,
            "connect": lambda: None,
        }

    def submit(self, count: int, kind: str) -> float:
        """Submit marks 1 to `count` one by one. Returns the seconds it took."""
        began = time.perf_counter()
        for mark in range(1, count + 1):
            self._client.submit(mark, kind)
        return time.perf_counter() - began

    def fill(self, count: int, kind: str) -> float:
        """Submit marks 1 to `count` by the contender's fastest way. Returns the seconds it took."""
        marks = range(1, count + 1)
        began = time.perf_counter()
        self._client.submit_many(marks, kind)
        return time.perf_counter() - began

    def pick_up(self, count: int, pause: float, kind: str) -> list[float]:
        """Submit marks 1 to `count`, one every `pause` seconds. Returns the moments just before each."""
        moments = []
        for mark in range(1, count + 1):
            moments.append(time.time())
            self._client.submit(mark, kind)
            time.sleep(max(0.0, moments[-1] + pause - time.time()))
        return moments


def limits_calls() -> dict[str, Callable[..., Any]]:
    """The loops of limits.py, on a connection of this process."""
    return limits.Worker(os.environ["DATABASE_URL"]).calls()


def main(name: str) -> None:
    """Serve until stdin ends."""
    # Stdout carries answers only: whatever a library prints goes to the log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    calls = limits_calls() if name == LIMITS else Speaker(contenders.find(name).connect()).calls()
    for line in sys.stdin:
        call = json.loads(line)
        answers.write(json.dumps(calls[call["do"]](**call["with"])) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
