"""Refusals, which every entry point translates: the message for people, and the code for scripts."""


class Refusal(Exception):
    """A request that was understood but not carried out. Nothing was changed. The message is for people."""

    exit_status = 3
    http_status = 409

    def __init__(self, message: str, *, code: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class NotFound(Refusal):
    """Not there, or not visible to the principal: the answer is the same for both."""

    exit_status = 2
    http_status = 404

    def __init__(self, message: str, *, code: str = "not_found", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Invalid(Refusal):
    """The request itself is wrong. The details may have `errors`, pairs of pointer and message."""

    exit_status = 2
    http_status = 422

    def __init__(self, message: str, *, code: str = "invalid", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Forbidden(Refusal):
    """A permission is missing. The message names it."""

    http_status = 403

    def __init__(self, message: str, *, code: str = "forbidden", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Conflict(Refusal):
    """The row is not in a state that allows this."""


class TooMany(Refusal):
    """More than a quota allows now."""

    http_status = 429

    @property
    def retry_after(self) -> object:
        """The seconds after which the request may fit, where that is known."""
        return self.details.get("retry_after")
