"""Liquid templates in the strings of an action. They see the job's parameters and the results of its earlier actions.

Tenants write them and workers render them. So there are no loops and no filters that turn small input into large
output. Limits hold for the length of a source, of each intermediate value and of all that an action renders, and for
the time.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from liquid import BoundTemplate, DictLoader, Environment, StrictUndefined
from liquid.exceptions import FilterArgumentError, LiquidError

from jobsite.programs.context import PermanentError

if TYPE_CHECKING:
    from jobsite.programs.context import Context

MAX_SOURCE = 8 * 1024
KEPT_SOURCE = 1024  # longer templates are not cached: parsed, a template takes a hundred times its length
MAX_VALUE = 256 * 1024
MAX_RENDERED = 1024 * 1024
CHILDREN = ("completed", "failed", "canceled", "total")
TAGS = ("#", "case", "comment", "content", "illegal", "if", "output", "unless")
FILTERS = (
    *("abs", "append", "at_least", "at_most", "base64_encode", "base64_url_safe_encode", "capitalize", "ceil", "date"),
    *("default", "divided_by", "downcase", "escape", "first", "floor", "last", "lstrip", "minus", "modulo", "plus"),
    *("prepend", "remove", "round", "rstrip", "size", "slice", "strip", "truncate", "upcase", "url_decode"),
    *("url_encode",),
)


# Ranges are refused: the interpreter looks for a value in one by a loop that nothing can interrupt.
_RANGE = re.compile(r"\([^()]*\.\.")


class _Limited(Environment):
    output_stream_limit = 64 * 1024


def _made() -> Environment:
    environment = _Limited(undefined=StrictUndefined, loader=DictLoader({}))
    environment.tags = {name: tag for name, tag in environment.tags.items() if name in TAGS}
    environment.filters = {name: _bounded(environment.filters[name]) for name in FILTERS}
    return environment


def _bounded(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        value = filter_(*args, **kwargs)
        if isinstance(value, str) and len(value) > MAX_VALUE:
            raise FilterArgumentError(f"more than {MAX_VALUE:,} characters", token=None)
        return value

    return bounded


_environment = _made()


@lru_cache(maxsize=250)
def _kept(source: str) -> BoundTemplate:
    return _environment.from_string(source)


def _parsed(source: str) -> BoundTemplate:
    """The parsed template. Raises LiquidError, before it parses, for a source that is costly to parse or to render."""
    if len(source) > MAX_SOURCE:
        raise LiquidError(f"a text has at most {MAX_SOURCE:,} characters", token=None)
    if "{{{" in source:
        raise LiquidError("three braces in a row are not allowed", token=None)
    if _RANGE.search(_liquid_part(source)):
        raise LiquidError("ranges such as (1..9) are not allowed", token=None)
    return _kept(source) if len(source) <= KEPT_SOURCE else _environment.from_string(source)


def _has_liquid(source: str) -> bool:
    """Whether a text contains Liquid; a shell's ${HOME} is not Liquid."""
    return "{{" in source or "{%" in source


def _liquid_part(source: str) -> str:
    """The part that may be Liquid: from the first opening mark to the last closing mark."""
    begin = min(place for mark in ("{{", "{%") if (place := source.find(mark)) >= 0)
    return source[begin : max(source.rfind("}}"), source.rfind("%}")) + 2]


def check(source: str, *, in_callback: bool = False) -> str | None:
    """What is wrong with a template, in words with its line; None if it parses and its filters and names exist.

    `children` exists only in a callback.
    """
    if not _has_liquid(source):
        return None
    try:
        found = _parsed(source).analyze()
    except LiquidError as error:
        return str(error)
    if unknown := set(found.filters) - set(FILTERS):
        return f"unknown filter {min(unknown)}; there are {', '.join(FILTERS)}"
    names = ("parameters", "steps", "children") if in_callback else ("parameters", "steps")
    if unknown := set(found.globals) - set(names):
        return f"unknown name {min(unknown)}; there are {', '.join(names)}"
    counts = {str(one.segments[1]) for one in found.globals.get("children", ()) if len(one.segments) > 1}
    if unknown := counts - set(CHILDREN):
        return f"unknown name children.{min(unknown)}; there are {', '.join(CHILDREN)}"
    return None


def render(source: str, context: "Context") -> str:
    """The string with `parameters` and `steps` (results by name) filled in.

    In a callback `children` has their counts: completed, failed, canceled, total. The time that rendering takes counts
    towards the action's time limit. Raises PermanentError, which names the template that cannot be rendered.
    """
    if not _has_liquid(source):
        return source
    try:
        with context.alarm():
            template, known = _parsed(source), {"parameters": context.parameters, "steps": context.steps}
            if context.claimed.parked_fence is not None and "children" in source:
                known["children"] = context.children.counts
            return str(template.render(known))
    except LiquidError as error:
        raise PermanentError(f"cannot render {source!r}: {error}") from error


def render_all(value: object, context: "Context") -> object:
    """A JSON value with each of its texts rendered, at most MAX_RENDERED characters in all; keys are not rendered."""
    room = MAX_RENDERED

    def fill(part: object) -> object:
        nonlocal room
        if isinstance(part, str):
            text = render(part, context)
            room -= len(text)
            if room < 0:
                raise PermanentError(f"what the action renders has more than {MAX_RENDERED:,} characters")
            return text
        if isinstance(part, dict):
            return {key: fill(one) for key, one in part.items()}
        return [fill(one) for one in part] if isinstance(part, list) else part

    return fill(value)


def strings_in(value: object) -> Iterator[str]:
    """Every text in a JSON value that is rendered."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_in(one)
