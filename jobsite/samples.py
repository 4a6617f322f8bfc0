"""Actions to try jobsite with."""

from programs.context import Context


def noop(context: Context) -> None:
    """Do nothing."""
