"""What every kind of action shares: its errors, and the shape that execution calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from programs.context import Context


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
    """One action as it is run now: its configuration, and the seconds that it may take."""

    name: str
    kind: str
    configuration: Mapping[str, Any]
    timeout: float


class Runner(Protocol):
    """One kind of action."""

    def __call__(self, context: "Context", step: Step) -> object:
        """Run to the end and return the result; raise to fail."""
