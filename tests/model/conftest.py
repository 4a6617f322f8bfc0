"""What the model's tests share: the database that the driver works on."""

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.model.driver import World


@pytest.fixture
def new_world(db: None) -> Iterator[Callable[..., World]]:
    """A world in a transaction of its own, with these statements of DDL done to it."""
    worlds: list[World] = []

    def make(ddl: Sequence[str] = ()) -> World:
        worlds.append(World(ddl))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()
