"""The actions of the harness: they report their effects to the outside service, and take some time."""

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


def _send(context: Context, kind: str) -> bool:
    if not hasattr(_clients, "client"):
        _clients.client = Client()
    return _clients.client.send(kind, job=context.job_number, fence=context.fence, token=str(context.lock_token))


def act(context: Context, seconds: float = 0.0, again_seconds: float | None = None, **_: Any) -> dict[str, int]:
    """Begin, take a while (`again_seconds` in a later run), write to the service under the fence, end."""
    _send(context, "begin")
    if again_seconds is not None and context.fence > 1:
        seconds = again_seconds
    if seconds:
        time.sleep(seconds)
    if not _send(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _send(context, "end")
    return {"fence": context.fence}


def fan_out(context: Context, program: str, count: int, seconds: float = 0.0, **_: Any) -> dict[str, int]:
    """Spawn `count` children, each with a key; write to the service as `act` does."""
    _send(context, "begin")
    numbers = {context.spawn(program, {"seconds": seconds}, key=str(place)) for place in range(count)}
    if not _send(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _send(context, "end")
    return {"spawned": len(numbers)}


def gather(context: Context, count: int, **_: Any) -> dict[str, int]:
    """The callback of `fan_out`: every child has ended, and each is listed once."""
    _send(context, "begin")
    numbers = [child.number for child in context.children]
    if len(set(numbers)) != count or len(numbers) != count:
        raise PermanentError(f"{len(numbers)} children are listed, {len(set(numbers))} different ones, not {count}")
    if not _send(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _send(context, "end")
    return {"gathered": len(numbers)}


def kill_my_worker(context: Context, **_: Any) -> None:
    """Kill the whole worker, the main process first."""
    _send(context, "begin")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_my_process(context: Context, **_: Any) -> None:
    """Kill the child of the pool that runs this job."""
    _send(context, "begin")
    os.kill(os.getpid(), signal.SIGKILL)


def hang(context: Context, **_: Any) -> None:
    """Ignore every request to stop, signals too, beyond any time limit."""
    _send(context, "begin")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:  # this is what a badly written action does
            continue


def hog(context: Context, seconds: float, **_: Any) -> dict[str, int]:
    """Call a C function that holds the interpreter's lock all the time."""
    _send(context, "begin")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    if not _send(context, "write"):
        raise PermanentError(f"the outside service refused fence {context.fence}")
    _send(context, "end")
    return {"fence": context.fence}


def fork_and_hang(context: Context, marker: str, **_: Any) -> None:
    """Start a process and wait for it, beyond any time limit."""
    _send(context, "begin")
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)", marker], check=False)


def fail(context: Context, **_: Any) -> None:
    """Begin, and fail for good."""
    _send(context, "begin")
    raise ValueError("this job always fails")
