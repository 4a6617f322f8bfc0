"""The run: rounds in which every contender has its turn, so that what drifts, drifts for all."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from jobsite.bench.aims import Figure, Key
from jobsite.bench.contenders.base import Contender
from jobsite.bench.ground import Ground
from jobsite.bench.measure import Sizes, Turn

Say = Callable[[str], None]


def run(
    ground: Ground, contenders: Sequence[Contender], *, rounds: int, sizes: Sizes, figures: frozenset[Figure], say: Say
) -> dict[Key, list[float]]:
    """Measure every figure of every contender once in each round; the values in the order of the rounds."""
    results: dict[Key, list[float]] = defaultdict(list)
    for name in {contender.database for contender in contenders if contender.database}:
        ground.create_database(name)
    for number in range(1, rounds + 1):
        for contender in contenders:
            say(f"round {number} of {rounds}: {contender.title}")

            def record(figure: Figure, value: float, contender: Contender = contender) -> None:
                results[contender.name, figure].append(value)
                say(f"    {figure} {value:,.2f}")

            Turn(ground, contender, sizes, record).run(figures)
    return dict(results)
