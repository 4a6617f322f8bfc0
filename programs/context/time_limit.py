"""The time limit of an action: an alarm that interrupts only the action, and no statement of ours."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from jobsite.programs.rules.stops import JobTimeout


class Alarm:
    """A time limit of an action, and whether it has rung."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.rang = False


# The alarm that may ring now. Without one, a signal is ignored: the action has returned.
_alarm: Alarm | None = None


@contextmanager
def alarm(at: float) -> Iterator[Alarm]:
    """Raise JobTimeout at this moment of the monotonic clock, in the main thread of a process only."""
    mine = Alarm(at)
    if threading.current_thread() is not threading.main_thread():
        yield mine
        return
    global _alarm
    # Installed once, since that costs more than a short action; but an action may have installed another handler.
    if signal.getsignal(signal.SIGALRM) is not _ring:
        signal.signal(signal.SIGALRM, _ring)
    _alarm = mine
    signal.setitimer(signal.ITIMER_REAL, max(0.001, at - time.monotonic()))
    try:
        yield mine
    finally:
        if _alarm is mine:  # not the alarm of a later job, where this is closed late
            disarm()


def disarm() -> None:
    """Let no alarm ring any more: protocol code is never interrupted."""
    global _alarm
    if _alarm is not None:
        _alarm = None
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no alarm ring in the middle of a statement; an alarm that is due by then rings right afterwards."""
    global _alarm
    if threading.current_thread() is not threading.main_thread():
        yield  # no alarm rings there
        return
    silenced, _alarm = _alarm, None
    try:
        yield
    finally:
        _alarm = silenced
        if silenced is not None and time.monotonic() >= silenced.at:
            signal.setitimer(signal.ITIMER_REAL, 0.001)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    if _alarm is not None:
        _alarm.rang = True
        raise JobTimeout
