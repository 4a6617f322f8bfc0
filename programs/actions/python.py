"""The kind `python`: a function of this installation, called in the pool process with its arguments by name.

A plain function and an `async def` get the context first. An existing Celery task, named as Celery names it, gets the
parameters alone and runs unchanged: its body runs here, `self.retry()` and `autoretry_for` become a retry of the job.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from celery import Task, current_app
from celery._state import _task_stack
from celery.exceptions import Ignore, Reject, Retry

from jobsite.programs.context import PermanentError, Step, TransientError, UnknownAction
from jobsite.programs.rules.stops import JobTimeout

if TYPE_CHECKING:
    from jobsite.programs.context import Context

MOVED = {"programs.housekeeping": "jobsite.programs.upkeep.housekeeping"}
"""Our modules whose earlier names stored targets may still use."""


@cache
def find_function(target: str) -> Callable[..., Any]:
    """The function that `module:function` names, or the named Celery task. Raises UnknownAction if there is none."""
    module_name, colon, name = target.partition(":")
    module_name = MOVED.get(module_name, module_name)
    if not colon:
        return _find_task(target)  # type: ignore[no-any-return]
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a module may raise anything while it is imported
        raise UnknownAction(f"{target}: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise UnknownAction(f"{target} is not a function")
    return function  # type: ignore[no-any-return]


def _find_task(name: str) -> Task:
    try:
        current_app.loader.import_default_modules()  # in case no worker has done so in this process
    except Exception as error:
        raise UnknownAction(f"{name}: {type(error).__name__}: {error}") from error
    task = current_app.tasks.get(name)
    if task is None:
        raise UnknownAction(f"{name}: there is no Celery task of this name")
    return task


def is_allowed(target: str, modules: tuple[str, ...]) -> bool:
    """Whether JOBSITE_ACTIONS lets tenants use a target: its module, or a package named as `billing.*`."""
    module = target.partition(":")[0] if ":" in target else target.rpartition(".")[0]
    return any(
        module == allowed or (allowed.endswith(".*") and (module + ".").startswith(allowed[:-1])) for allowed in modules
    )


def run_python(context: "Context", step: Step) -> object:
    """Call the function with the context and the job's parameters by name; a Celery task with the parameters."""
    function = find_function(step.configuration["target"])
    with context.alarm() as alarm:
        if isinstance(function, Task):
            return _run_task(context, function, context.parameters)
        result = function(context, **context.parameters)
        if not isawaitable(result):
            return result
        ended = asyncio.run(_awaited(result))
    if alarm.rang:  # inside a task of the loop whose error nobody awaited
        raise JobTimeout
    return ended


async def _awaited(result: Awaitable[object]) -> object:
    return await result


def _run_task(context: "Context", task: Task, parameters: Mapping[str, Any]) -> object:
    # Like Task.__call__, but the request knows which try this is. It is eager, so that it publishes no retry.
    _task_stack.push(task)
    task.push_request(
        id=str(context.lock_token),
        args=(),
        kwargs=dict(parameters),
        retries=context.attempt - 1,
        called_directly=False,
        is_eager=True,
    )
    try:
        return task.run(**parameters)
    except Retry as retry:
        raise TransientError(str(retry.exc or retry), retry_after=_seconds_until(retry.when)) from retry
    except Ignore:
        return None
    except Reject as rejection:
        raise PermanentError(f"the task was rejected: {rejection.reason}") from rejection
    finally:
        try:
            task.pop_request()
        finally:
            _task_stack.pop()


def _seconds_until(when: object) -> float | None:
    """The seconds from now that a retry's countdown (seconds) or eta (a moment) means."""
    if isinstance(when, datetime):
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return float(when) if isinstance(when, (int, float)) else None
