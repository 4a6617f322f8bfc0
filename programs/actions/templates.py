"""Liquid in the strings of an action, over the job's parameters and the results of its earlier actions, no more."""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from liquid import BoundTemplate, DictLoader, Environment, StrictUndefined
from liquid.exceptions import LiquidError

from programs.actions.base import PermanentError

if TYPE_CHECKING:
    from programs.context import Context


class _Limited(Environment):
    loop_iteration_limit = 1_000
    local_namespace_limit = 100_000
    output_stream_limit = 64 * 1024


_environment = _Limited(undefined=StrictUndefined, loader=DictLoader({}))


@lru_cache(maxsize=1_000)
def _parsed(source: str) -> BoundTemplate:
    return _environment.from_string(source)


def check(source: str) -> str | None:
    """What is wrong with a template, in words with its line; None when it parses."""
    try:
        _parsed(source)
    except LiquidError as error:
        return str(error)
    return None


def render(source: str, context: "Context") -> str:
    """The string with `parameters` and `steps` (results by name) filled in; PermanentError names what cannot be."""
    if "{" not in source:
        return source
    try:
        return str(_parsed(source).render(parameters=context.parameters, steps=context.steps))
    except LiquidError as error:
        raise PermanentError(f"cannot render {source!r}: {error}") from error


def render_all(value: object, context: "Context") -> object:
    """A JSON value with the placeholders in each of its texts filled; keys stay as they are."""
    if isinstance(value, str):
        return render(value, context)
    if isinstance(value, dict):
        return {key: render_all(one, context) for key, one in value.items()}
    return [render_all(one, context) for one in value] if isinstance(value, list) else value


def strings_in(value: object) -> Iterator[str]:
    """Every text in a JSON value that is rendered."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)
