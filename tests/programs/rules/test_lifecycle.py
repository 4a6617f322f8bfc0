"""The lifecycle of a job as data: its statuses, phases and moves."""

import pytest

from jobsite.programs.rules import lifecycle
from jobsite.programs.rules.lifecycle import MOVES, OPEN, TERMINAL, TRANSITIONS, Phase, Status

# SPEC 4, line by line.
SPEC = {
    "PENDING": {"QUEUED", "CANCELED"},
    "QUEUED": {"RUNNING", "PENDING", "CANCELED"},
    "RUNNING": {"PENDING", "WAITING", "COMPLETED", "FAILED", "CANCELED"},
    "WAITING": {"PENDING", "COMPLETED", "FAILED", "CANCELED"},
    "COMPLETED": set(),
    "FAILED": set(),
    "CANCELED": set(),
}


@pytest.mark.parametrize("status", Status)
def test_a_job_moves_as_the_specification_says(status):
    targets = {target for source, target in MOVES if source is status}

    assert targets == SPEC[status]


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("PENDING", "PENDING"),
        ("QUEUED", "PENDING"),
        ("RUNNING", "RUNNING"),
        ("WAITING", "RUNNING"),
        ("COMPLETED", "COMPLETED"),
        ("FAILED", "COMPLETED"),
        ("CANCELED", "COMPLETED"),
    ],
)
def test_every_status_has_its_phase(status, phase):
    assert Status(status).phase is Phase(phase)


def test_a_status_is_either_open_or_terminal():
    assert set(Status) == OPEN | TERMINAL
    assert not OPEN & TERMINAL
    assert {"COMPLETED", "FAILED", "CANCELED"} == TERMINAL


def test_nothing_leaves_a_terminal_status():
    assert not [move for move in MOVES if move[0] in TERMINAL]


@pytest.mark.parametrize("status", sorted(OPEN))
def test_every_open_job_can_reach_every_terminal_status(status):
    assert reachable(status) >= TERMINAL


def test_a_new_job_can_reach_every_status():
    assert reachable("PENDING") == set(Status)


def reachable(start):
    found = {Status(start)}
    while more := {target for source, target in MOVES if source in found} - found:
        found |= more
    return found


def test_every_move_has_a_name_of_its_own():
    names = [move.name for move in TRANSITIONS]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("move", TRANSITIONS, ids=lambda move: move.name)
def test_a_move_starts_from_open_statuses_only(move):
    assert move.sources
    assert move.targets
    assert set(move.sources) <= OPEN


def test_a_move_names_its_source_and_its_target_where_there_is_one():
    assert (lifecycle.DISPATCH.source, lifecycle.DISPATCH.target) == ("PENDING", "QUEUED")
    with pytest.raises(ValueError, match="too many values"):
        lifecycle.CANCEL.source  # noqa: B018 - to ask is what fails
    with pytest.raises(ValueError, match="too many values"):
        lifecycle.FINISH.target  # noqa: B018 - to ask is what fails


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Outcome", "NORMAL WARNING ERROR"),
        ("Trigger", "AUTOMATIC MANUAL CHILD"),
        ("Blocked", "SCHEDULED HELD PAUSED OVERLAP"),
        ("FailureKind", "PERMANENT TRANSIENT TIMEOUT WORKER_LOST REFUSED"),
        ("Overlap", "ALLOW REJECT QUEUE"),
        (
            "AttemptResult",
            "SUCCESS PARKED TRANSIENT PERMANENT TIMEOUT LOST CANCELED RETURNED CLEARED",
        ),
    ],
)
def test_the_values_are_those_of_the_specification(kind, words):
    assert [str(word) for word in getattr(lifecycle, kind)] == words.split()
