"""The last steps before a program of an embedded server starts: take its lock, change the user, detach.

This is a script of its own that gets one Request as JSON, so that no process with threads has to fork or to change
its user. It ends with status REFUSED and one sentence on stderr when the program must not be started.
"""

import ctypes
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import TypedDict

REFUSED = 3

PR_SET_KEEPCAPS, PR_GET_SECUREBITS, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 8, 27, 28, 47  # linux/prctl.h
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2  # linux/securebits.h
CAP_DAC_READ_SEARCH, CAP_SETPCAP = 2, 8  # linux/capability.h
CAPABILITY_VERSION_3 = 0x20080522


class Request(TypedDict):
    """What to run, and how.

    `running` is the file whose lock the program and all its children hold. `user` is (uid, gid), or None to keep the
    user. `reach` maps descriptions to the paths that this user must be able to enter or run. With `detach` the
    caller is not the program's parent, and stderr goes where stdout goes.
    """

    argv: list[str]
    running: str
    user: tuple[int, int] | None
    reach: dict[str, str]
    detach: bool


class RefusedError(Exception):
    """The program must not be started. The message says why, and what to do."""


def main(request: Request) -> None:
    """Replace this process with the requested program. Raises RefusedError; does not return."""
    _hold(request["running"])
    if request["user"]:
        _become(*request["user"], request["reach"])
    if request["detach"]:
        if os.fork():
            os._exit(0)
        os.dup2(1, 2)
    os.execv(request["argv"][0], request["argv"])  # noqa: S606 - no shell is wanted


def _hold(running: str) -> None:
    """Lock the file for as long as this process, or a program or child that inherits it, is alive."""
    descriptor = os.open(running, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RefusedError(f"a server that holds {running} is running: stop it first.") from error
    os.ftruncate(descriptor, 0)
    os.set_inheritable(descriptor, True)


def _become(uid: int, gid: int, reach: dict[str, str]) -> None:
    """Change to that user. Keep one capability only if the user cannot reach the paths without it."""
    os.setgroups([])
    os.setgid(gid)
    if sys.platform == "linux":
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setuid(uid)
    if _closed(reach) and sys.platform == "linux":
        _keep_directory_search()
    for what, path in _closed(reach).items():
        raise RefusedError(
            f"PostgreSQL refuses to run as root, so it runs as uid {uid}, which may not enter or run {path}. "
            f"{what} needs this: move {what}, give the permission, or run jobsite as a plain user."
        )


def _closed(reach: dict[str, str]) -> dict[str, Path]:
    """Return, for each path that cannot be reached, the outermost directory that is closed (or the path itself)."""
    closed = {}
    for what, path in reach.items():
        steps = [*reversed(Path(path).parents), Path(path)]
        for step in steps:
            if not os.access(step, os.X_OK):
                closed[what] = step
                break
    return closed


def _keep_directory_search() -> None:
    """Keep the capability to enter and read any directory across exec, when this process has it.

    PostgreSQL's programs look for each other with access(2). It ignores the capabilities of every user but root,
    unless SECBIT_NO_SETUID_FIXUP is set.
    """
    kept, while_setting = 1 << CAP_DAC_READ_SEARCH, 1 << CAP_DAC_READ_SEARCH | 1 << CAP_SETPCAP
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(while_setting, while_setting, kept, 0, 0, 0)  # effective, permitted, inheritable
    try:
        _check(ctypes.CDLL(None, use_errno=True).capset(header, sets))
        _prctl(PR_SET_SECUREBITS, _prctl(PR_GET_SECUREBITS) | SECBIT_NO_SETUID_FIXUP)
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH)
    except PermissionError:
        return  # not allowed, as in many containers: the caller checks which paths are still closed


def _prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(ctypes.CDLL(None, use_errno=True).prctl(option, *values))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except (RefusedError, OSError) as refusal:
        sys.stderr.write(str(refusal))
        sys.exit(REFUSED)
