"""The errors of an outgoing request: no answer, no answer in time, or a request that must not be sent."""


class OutgoingError(Exception):
    """A request got no answer; it may be tried again."""

    says_all = True


class OutgoingTimeout(OutgoingError):
    """No complete answer came in time."""


class OutgoingRefused(OutgoingError):
    """A request must not be sent or is invalid; another try does not help. The message says what and why."""
