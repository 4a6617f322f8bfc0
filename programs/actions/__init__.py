"""The kinds of action, and the errors that actions raise."""

from programs.actions.base import PermanentError, Runner, Step, TransientError, UnknownAction
from programs.actions.command import run_command
from programs.actions.python import run_python

RUNNERS: dict[str, Runner] = {"python": run_python, "command": run_command}

__all__ = ["RUNNERS", "PermanentError", "Runner", "Step", "TransientError", "UnknownAction"]
