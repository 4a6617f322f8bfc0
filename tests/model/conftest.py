"""What the model's tests share: the tables that the driver works on."""

from collections.abc import Iterator

import pytest

from tests.model.world import World


@pytest.fixture
def world(db: None) -> Iterator[World]:
    world = World()
    yield world
    world.close()
