"""What can go wrong with a request that goes out: it may be tried again, came too late, or must not be made."""


class OutgoingError(Exception):
    """A request came to no answer; it may be tried again."""

    says_all = True


class OutgoingTimeout(OutgoingError):
    """No whole answer came in time."""


class OutgoingRefused(OutgoingError):
    """A request that must not be made, or makes no sense; no new try helps. The message says what and why."""
