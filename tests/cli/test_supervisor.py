"""The services of `jobsite up`: restarted when they end, stopped together, killed when they ignore the signal."""

import time
from collections.abc import Callable

import pytest

from jobsite.cli import supervisor
from jobsite.cli.supervisor import Service, Supervisor


def _attend(keeper: Supervisor, until: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end, keeper.last_lines
        keeper.attend(0.05)


def test_a_service_that_ends_is_started_again() -> None:
    keeper = Supervisor([Service("short", ["sh", "-c", "echo alive; exit 3"])], is_quiet=True)
    keeper.start()

    _attend(keeper, lambda: keeper.last_lines["short"].count("alive") == 2)
    keeper.stop()

    assert "ended with status 3; starts again in 1 s" in keeper.last_lines["short"]


def test_stop_signals_all_services_and_waits_for_them() -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    keeper = Supervisor([Service(name, ["sh", "-c", script]) for name in ("one", "two")], is_quiet=True)
    keeper.start()
    _attend(keeper, lambda: all("ready" in lines for lines in keeper.last_lines.values()))

    keeper.stop()

    assert all(lines == ["ready", "bye"] for lines in keeper.last_lines.values())
    assert keeper.ended == ["one", "two"]


def test_a_service_that_ignores_the_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.3)
    keeper = Supervisor([Service("deaf", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])])
    keeper.start()
    _attend(keeper, lambda: "ready" in keeper.last_lines["deaf"])

    keeper.stop()

    assert keeper.ended == ["deaf"]
