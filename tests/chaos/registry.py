"""The scenarios by name, each a function with its limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.chaos import Chaos


@dataclass(frozen=True)
class Scenario:
    """One scenario. `limit` is the time limit of a run in seconds; `seeds` is how often the complete run repeats it."""

    name: str
    title: str
    run: "Callable[[Chaos], None]"
    limit: float
    seeds: int
    groups: bool


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str, *, limit: float, seeds: int = 1, groups: bool = False
) -> "Callable[[Callable[[Chaos], None]], Callable[[Chaos], None]]":
    """Register a scenario. The first line of its docstring is its title. `groups`: it also tests groups of jobs."""

    def enter(function: "Callable[[Chaos], None]") -> "Callable[[Chaos], None]":
        title = (function.__doc__ or name).splitlines()[0]
        SCENARIOS[name] = Scenario(name, title, function, limit, seeds, groups)
        return function

    return enter
