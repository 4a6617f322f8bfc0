"""The Liquid that tenants may write in a notification: its tags, filters, names and limits.

The library's own limits do not count what a chain of filters makes in between, nor what a range or an integer costs,
so every filter is bounded here. The process bounds time and memory as a whole (notifications.renderer).
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache, wraps
from typing import Any

from liquid import CachingDictLoader, Environment, Markup, StrictDefaultUndefined, Undefined
from liquid.exceptions import FilterArgumentError, LiquidError, TemplateNotFoundError
from liquid.static_analysis import TemplateAnalysis

from jobsite.notifications.sections import LANGUAGES, partials
from jobsite.values import times

MAX_SOURCE = 16 * 1024
MAX_TAGS = 500
MAX_VALUE = 64 * 1024
MAX_ITEMS = 10_000
MAX_BITS = 128
NAMES = ("event", "job", "program", "schedule", "parameters", "result", "error", "tenant", "user")
TAGS = (
    *("#", "assign", "break", "capture", "case", "comment", "content", "continue", "cycle", "echo", "for", "if"),
    *("illegal", "output", "render", "unless"),
)
FILTERS = (
    *("abs", "append", "at_least", "at_most", "capitalize", "ceil", "compact", "date", "default", "divided_by"),
    *("downcase", "escape", "first", "floor", "join", "last", "lstrip", "map", "minus", "modulo", "newline_to_br"),
    *("plus", "prepend", "remove", "replace", "reverse", "round", "rstrip", "size", "slice", "sort", "split", "strip"),
    *("strip_newlines", "times", "truncate", "truncatewords", "uniq", "upcase", "url_encode", "where"),
)
ESCAPING = ("escape", "newline_to_br", "url_encode")


class _Limited(Environment):
    block_nesting_limit = 20
    context_depth_limit = 20
    loop_iteration_limit = 10_000
    local_namespace_limit = 500_000
    output_stream_limit = 200_000


@cache
def environment(language: str, part: str, *, strict: bool) -> Environment:
    """What a part (subject, text, html) is parsed and rendered with; a language that has no partials gets English."""
    known = partials(language if language in LANGUAGES else "en", "html" if part == "html" else "text")
    made = _Limited(
        autoescape=part == "html",
        loader=CachingDictLoader(known),
        undefined=StrictDefaultUndefined if strict else Undefined,
    )
    made.tags = {name: tag for name, tag in made.tags.items() if name in TAGS}
    made.filters = {name: _bounded(made.filters[name], is_escaping=name in ESCAPING) for name in FILTERS}
    made.filters |= {name: _bounded(own) for name, own in (("when", when), ("duration", duration), ("json", as_json))}
    return made


def render(source: str, facts: dict[str, object], *, language: str, part: str, strict: bool) -> str:
    """The part filled in; raises LiquidError for what is too large, unknown or wrong."""
    if excess := _excess(source):
        raise LiquidError(excess, token=None)
    return environment(language, part, strict=strict).from_string(source).render(facts)


def problems(source: str, *, part: str) -> Iterator[tuple[int | None, str]]:
    """Everything wrong with the source of a part that can be seen without facts: line and reason."""
    if excess := _excess(source):
        yield None, excess
        return
    known = environment("en", part, strict=False)
    try:
        found = known.from_string(source).analyze()
    except LiquidError as error:
        yield line_of(error, source), reason_of(error)
        return
    yield from _unknown(found, source, tuple(known.filters))


def _unknown(found: TemplateAnalysis, source: str, filters: tuple[str, ...]) -> Iterator[tuple[int | None, str]]:
    for name, spans in found.filters.items():
        if name not in filters:
            yield _line(source, spans[0].index), f"unknown filter {name!r}; there are {', '.join(sorted(filters))}"
    for name, variables in found.globals.items():
        if name not in NAMES:
            yield _line(source, variables[0].span.index), f"unknown name {name!r}; there are {', '.join(NAMES)}"


def line_of(error: LiquidError, source: str) -> int | None:
    """The line of the source that an error names; None for one without a place, or in a partial of ours."""
    if error.token is None or error.token.source != source:
        return None
    return _line(source, error.token.start_index)


def reason_of(error: LiquidError) -> str:
    """An error's reason in one line, without the picture of the source that the library adds."""
    if isinstance(error, TemplateNotFoundError):
        return f"there is no partial {error.message!s}; there are {', '.join(partials('en', 'text'))}"
    return " ".join(str(error.message).split())[:300]


def _line(source: str, index: int) -> int:
    return source.count("\n", 0, index) + 1


def _excess(source: str) -> str | None:
    if len(source) > MAX_SOURCE:
        return f"it has {len(source):,} characters, at most {MAX_SOURCE:,} are allowed"
    if source.count("{%") + source.count("{{") > MAX_TAGS:
        return f"it has more than {MAX_TAGS} tags and outputs"
    return None


def _bounded(filter_: Callable[..., Any], *, is_escaping: bool = False) -> Callable[..., Any]:
    """The filter with a bound on its output. Its input is bounded already, as a fact or another output, but for ranges.

    Only the filters that were written to escape keep a text safe as HTML. Any other could cut or replace its way around
    the escaping, so its output is escaped (again) where it is put out.
    """

    @wraps(filter_)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        for arg in args:
            if type(arg) is range:  # isinstance() would ask an unknown name for its class, which is an error of its own
                _check_size(arg)
        value = filter_(*args, **kwargs)
        _check_size(value)
        return str(value) if isinstance(value, Markup) and not is_escaping else value

    return bounded


def _check_size(value: object) -> None:
    if isinstance(value, str) and len(value) > MAX_VALUE:
        raise FilterArgumentError(f"a value has more than {MAX_VALUE:,} characters", token=None)
    # len() of a range raises OverflowError beyond 2**63.
    length = value.stop - value.start if isinstance(value, range) else len(value) if isinstance(value, list) else 0
    if length > MAX_ITEMS:
        raise FilterArgumentError(f"a list has more than {MAX_ITEMS:,} items", token=None)
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise FilterArgumentError("a number is too large", token=None)


def when(value: object) -> str:
    """A moment, given as RFC 3339 text, in readable form: `2026-11-28 12:00 UTC`. Anything else stays as it is."""
    text = "" if value is None else str(value)
    try:
        return times.readable_time(datetime.fromisoformat(text))
    except ValueError:  # not a moment, or one without a zone
        return text


def duration(value: object) -> str:
    """Seconds in readable form, in units of every language: `45 s`, `3 min 20 s`, `2 h 5 min`, `1 d 4 h`."""
    try:
        seconds = float(value)  # type: ignore[arg-type]  # float() itself refuses what it does not take
        whole = round(seconds)
    except (TypeError, ValueError, OverflowError):
        return "" if value is None else str(value)
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    for size, unit, smaller, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def as_json(value: object) -> str:
    """A value as JSON, for parameters and results that are more than a word."""
    if isinstance(value, Undefined):
        value.poke()
        value = None
    return json.dumps(value, ensure_ascii=False, default=str)
