"""What the jobs of the harness do: leave their effects with the outside service, and take their time."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from jobsite.programs.context import Context, PermanentError
from tests.chaos.service import Client

_clients = threading.local()


def _tell(context: Context, kind: str) -> bool:
    if not hasattr(_clients, "client"):
        _clients.client = Client()
    return _clients.client.tell(kind, job=context.job_number, fence=context.fence, token=str(context.lock_token))


def act(context: Context, seconds: float = 0.0, again_seconds: float | None = None, **_: Any) -> dict[str, int]:
    """Begin, take a while (a later run may take another), write outside under the fence, end."""
    _tell(context, "begin")
    if again_seconds is not None and context.fence > 1:
        seconds = again_seconds
    if seconds:
        time.sleep(seconds)
    if not _tell(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _tell(context, "end")
    return {"fence": context.fence}


def fan_out(context: Context, program: str, count: int, seconds: float = 0.0, **_: Any) -> dict[str, int]:
    """Spawn so many children, each under a key; write outside like any other."""
    _tell(context, "begin")
    numbers = {context.spawn(program, {"seconds": seconds}, key=str(place)) for place in range(count)}
    if not _tell(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _tell(context, "end")
    return {"spawned": len(numbers)}


def gather(context: Context, count: int, **_: Any) -> dict[str, int]:
    """The callback of `fan_out`: every child has ended, and each is told once."""
    _tell(context, "begin")
    numbers = [child.number for child in context.children]
    if len(set(numbers)) != count or len(numbers) != count:
        raise PermanentError(f"{len(numbers)} children are told, {len(set(numbers))} different ones, not {count}")
    if not _tell(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _tell(context, "end")
    return {"gathered": len(numbers)}


def kill_my_worker(context: Context, **_: Any) -> None:
    """Poison: takes its whole worker along, main process first."""
    _tell(context, "begin")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_my_process(context: Context, **_: Any) -> None:
    """Poison: takes its own child of the pool along."""
    _tell(context, "begin")
    os.kill(os.getpid(), signal.SIGKILL)


def hang(context: Context, **_: Any) -> None:
    """Deaf to every request to stop, signals included, past any limit."""
    _tell(context, "begin")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:  # this is what a badly written action does
            continue


def hog(context: Context, seconds: float, **_: Any) -> dict[str, int]:
    """A call into C that holds the interpreter's lock all the while."""
    _tell(context, "begin")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    if not _tell(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _tell(context, "end")
    return {"fence": context.fence}


def fork_and_hang(context: Context, marker: str, **_: Any) -> None:
    """Starts a process of its own and waits for it, past any limit."""
    _tell(context, "begin")
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)", marker], check=False)


def fail(context: Context, **_: Any) -> None:
    """Begins, and fails for good."""
    _tell(context, "begin")
    raise ValueError("this was to be expected")
