"""The refusals that every door translates: what was refused, why, and the code that scripts rely on."""


class Refusal(Exception):
    """A request that was understood and not carried out; nothing was changed. The message is for people."""

    exit_status = 3
    http_status = 409

    def __init__(self, message: str, *, code: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class NotFound(Refusal):
    """Not there, or not yours: the two are never told apart."""

    exit_status = 2
    http_status = 404

    def __init__(self, message: str, *, code: str = "not_found", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Invalid(Refusal):
    """The request itself makes no sense; `errors` may hold (pointer, message) pairs."""

    exit_status = 2
    http_status = 422

    def __init__(self, message: str, *, code: str = "invalid", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Forbidden(Refusal):
    """A permission is missing; the message names it."""

    http_status = 403

    def __init__(self, message: str, *, code: str = "forbidden", **details: object) -> None:
        super().__init__(message, code=code, **details)


class Conflict(Refusal):
    """The row is not in a state that allows this."""


class TooMany(Refusal):
    """More than a quota allows now; `retry_after` says in how many seconds it may fit."""

    http_status = 429

    @property
    def retry_after(self) -> object:
        """In how many seconds it may fit, where that is known."""
        return self.details.get("retry_after")
