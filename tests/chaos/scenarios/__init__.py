"""All scenarios, by what they break."""

from tests.chaos import registry
from tests.chaos.scenarios import (
    brokers,
    databases,
    deeds,
    deploys,
    failpoints,
    families,
    flagship,
    frozen,
    limits,
    notifications,
    overlaps,
    races,
    schedules,
)

SCENARIOS = dict(sorted(registry.SCENARIOS.items(), key=lambda one: int(one[0].removeprefix("R"))))

__all__ = [
    "SCENARIOS",
    "brokers",
    "databases",
    "deeds",
    "deploys",
    "failpoints",
    "families",
    "flagship",
    "frozen",
    "limits",
    "notifications",
    "overlaps",
    "races",
    "schedules",
]
