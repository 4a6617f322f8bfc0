"""What an action sees of its job: the context, its log, steps and children, and the errors that make it fail."""

from jobsite.programs.context.children import Child, Children
from jobsite.programs.context.context import Context
from jobsite.programs.context.steps import MAX_STEPS, Step
from jobsite.programs.rules.failures import PermanentError, TransientError, UnknownAction

__all__ = [
    "MAX_STEPS",
    "Child",
    "Children",
    "Context",
    "PermanentError",
    "Step",
    "TransientError",
    "UnknownAction",
    "job_log",
]
