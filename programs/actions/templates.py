"""Liquid in the strings of an action, over the job's parameters and nothing else."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from liquid import BoundTemplate, DictLoader, Environment, StrictUndefined
from liquid.exceptions import LiquidError

from programs.actions.base import PermanentError


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


def render(source: str, parameters: Mapping[str, Any]) -> str:
    """The string with its placeholders filled; PermanentError names what cannot be."""
    if "{" not in source:
        return source
    try:
        return str(_parsed(source).render(parameters=parameters))
    except LiquidError as error:
        raise PermanentError(f"cannot render {source!r}: {error}") from error
