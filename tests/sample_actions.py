"""Actions that the tests run."""

import time
from pathlib import Path
from typing import Any

from programs.actions import PermanentError, TransientError
from programs.context import Context


def succeed(context: Context, **_: Any) -> dict[str, int]:
    return {"number": context.job_number}


def echo(context: Context, value: Any = None) -> Any:
    return value


def warn(context: Context) -> None:
    context.warn("3 students without marks")


def fail(context: Context) -> None:
    raise ValueError("this can never work")


def refuse(context: Context) -> None:
    raise PermanentError("no")


def fail_until(context: Context, attempt: int) -> str:
    if context.attempt < attempt:
        raise TransientError(f"attempt {context.attempt} fails on purpose")
    return "at last"


def need(context: Context, permission: str) -> str:
    context.require(permission)
    return "permitted"


def wait_for(context: Context, path: str, seconds: float = 30.0) -> str:
    """Until a file appears: tests decide when."""
    end = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        context.progress(0, 1, "waiting")
        time.sleep(0.02)
    return "seen"


def hang(context: Context, seconds: float = 60.0) -> None:
    """Deaf to every request to stop."""
    time.sleep(seconds)


def effect(context: Context, path: str, seconds: float = 0.0) -> None:
    """One line in a file for each time that it really ran to its end."""
    time.sleep(seconds)
    with Path(path).open("a") as file:
        file.write(f"{context.job_number} {context.fence}\n")
