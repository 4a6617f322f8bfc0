"""What ends an action from outside.

No Exceptions, so that an action's own `except Exception` around each of its items does not swallow them.
"""


class JobCanceled(BaseException):
    """The job was asked to stop."""


class JobTimeout(BaseException):
    """The run took longer than its program allows."""


class LockLost(BaseException):
    """This worker no longer holds the job; nothing it writes counts."""


class Snooze(BaseException):
    """The action wants to be run again in `seconds`; the run is not counted."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds
