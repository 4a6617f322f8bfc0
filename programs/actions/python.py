"""The kind `python`: a function of this installation, called in the pool process with its arguments by name."""

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from programs.actions.base import Step, UnknownAction

if TYPE_CHECKING:
    from programs.context import Context


@cache
def find_function(target: str) -> Callable[..., Any]:
    """The function that `module:function` names; UnknownAction when it cannot be imported here."""
    module_name, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UnknownAction(f"{target}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UnknownAction(f"{target} is not a function")
    return function  # type: ignore[no-any-return]


def is_allowed(target: str, modules: tuple[str, ...]) -> bool:
    """Whether JOBSITE_ACTIONS lets tenants use a target: its module, or a package named as `billing.*`."""
    module = target.partition(":")[0]
    return any(
        module == allowed or (allowed.endswith(".*") and (module + ".").startswith(allowed[:-1])) for allowed in modules
    )


def run_python(context: "Context", step: Step) -> object:
    """Call the function with the context and the job's parameters by name."""
    function = find_function(step.configuration["target"])
    with context.alarm(step.timeout):
        return function(context, **context.parameters)
