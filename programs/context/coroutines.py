"""Let an action's coroutine use Django's connection: it runs alone on its thread, and waits for each answer."""

import os
import threading
from asyncio import get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager

ASYNC_UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"
_environment_lock = threading.Lock()
_coroutines = 0
_before: list[str | None] = []


@contextmanager
def in_coroutines_too() -> Iterator[None]:
    """Let Django use its connection though an event loop runs in this thread, for a coroutine of an action."""
    global _coroutines
    if not _is_in_a_loop():
        yield
        return
    with _environment_lock:
        _coroutines += 1
        if _coroutines == 1:
            _before.append(os.environ.get(ASYNC_UNSAFE))
            os.environ[ASYNC_UNSAFE] = "true"
    try:
        yield
    finally:
        with _environment_lock:
            _coroutines -= 1
            if _coroutines == 0:
                before = _before.pop()
                if before is None:
                    del os.environ[ASYNC_UNSAFE]
                else:
                    os.environ[ASYNC_UNSAFE] = before


def _is_in_a_loop() -> bool:
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
