"""What every kind of action shares: its errors, and the shape that execution calls."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from jobsite.programs.stops import JobCanceled, JobTimeout, LockLost

if TYPE_CHECKING:
    from jobsite.programs.context import Context


class TransientError(Exception):
    """Raised by an action: a new try may help. `retry_after` in seconds delays it at least that long."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(Exception):
    """Raised by an action: no new try will help."""


class UnknownAction(Exception):
    """This worker cannot find the code of an action; another worker may."""


@dataclass(frozen=True)
class Step:
    """One action as it is run now: its configuration, and the seconds that it may take.

    A callback that is called again, after children that it spawned itself, has another `turn`.
    """

    name: str
    kind: str
    configuration: Mapping[str, Any]
    timeout: float
    turn: int = 0

    @cached_property
    def digest(self) -> UUID:
        """Of its name and what it does: an action that was edited is another step.

        A webhook that gets another secret does the same.
        """
        what = {key: value for key, value in self.configuration.items() if key != "secret"}
        content = json.dumps([self.name, self.kind, what, *([self.turn] if self.turn else [])], sort_keys=True)
        return UUID(bytes=hashlib.sha256(content.encode()).digest()[:16])


def stop_wanted(context: "Context", deadline: float) -> BaseException | None:
    """What ends a run that must not go on, JobTimeout, JobCanceled or LockLost; for what runs outside this process."""
    if time.monotonic() > deadline:
        return JobTimeout()
    try:
        context.checkpoint()
    except (JobCanceled, JobTimeout, LockLost) as stop:
        return stop
    return None


class Runner(Protocol):
    """One kind of action."""

    def __call__(self, context: "Context", step: Step) -> object:
        """Run to the end and return the result; raise to fail."""
