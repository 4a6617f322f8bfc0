"""Set up a child process before it runs its program."""

import ctypes
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def dying_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A preexec_fn that sends the child this signal when the thread that started it ends; None off Linux."""
    if sys.platform != "linux":
        return None

    def tie() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, number)

    return tie
