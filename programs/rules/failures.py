"""How an action fails, and whether a new try may help."""


class TransientError(Exception):
    """Raised by an action: a new try may help. `retry_after` in seconds delays it at least that long."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(Exception):
    """Raised by an action: no new try will help."""


class UnknownAction(Exception):
    """This worker cannot find the code of an action; another worker may."""
