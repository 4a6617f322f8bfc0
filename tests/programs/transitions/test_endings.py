"""An ending is made by its name, so that status, result, outcome and kind of failure always fit together."""

import ast
from pathlib import Path

import pytest

from jobsite.programs.rules.lifecycle import FINISH, AttemptResult, FailureKind
from jobsite.programs.transitions.finish import Ending

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "programs/transitions/finish.py"
ERROR = {"type": "ValueError", "message": "no", "step": None}


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (Ending.completed({"n": 1}), "COMPLETED SUCCESS NORMAL None"),
        (Ending.completed(has_warned=True), "COMPLETED SUCCESS WARNING None"),
        (Ending.waiting(), "WAITING SUCCESS NORMAL None"),
        (Ending.waiting(has_warned=True), "WAITING SUCCESS WARNING None"),
        (Ending.parked(), "WAITING PARKED NORMAL None"),
        (Ending.failed(FailureKind.PERMANENT, ERROR), "FAILED PERMANENT ERROR PERMANENT"),
        (Ending.failed(FailureKind.REFUSED, ERROR), "FAILED PERMANENT ERROR REFUSED"),
        (Ending.failed(FailureKind.TRANSIENT, ERROR), "FAILED TRANSIENT ERROR TRANSIENT"),
        (Ending.failed(FailureKind.TIMEOUT, ERROR), "FAILED TIMEOUT ERROR TIMEOUT"),
        (Ending.retry(FailureKind.TRANSIENT, ERROR), "PENDING TRANSIENT NORMAL None"),
        (Ending.retry(FailureKind.TIMEOUT, ERROR), "PENDING TIMEOUT NORMAL None"),
        (Ending.canceled(), "CANCELED CANCELED NORMAL None"),
        (Ending.returned(), "PENDING RETURNED NORMAL None"),
    ],
)
def test_each_constructor_makes_what_fits_together(ending, words):
    made = [ending.status, ending.attempt_result, ending.outcome, ending.failure_kind]

    assert " ".join(map(str, made)) == words
    assert ending.status in FINISH.targets
    assert ending.counts == (ending.attempt_result is not AttemptResult.RETURNED)


def test_no_worker_ends_its_own_run_as_lost():
    with pytest.raises(KeyError):
        Ending.failed(FailureKind.WORKER_LOST, ERROR)


def _made_without_a_name(source):
    """The lines that call the class directly."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if ast.unparse(call.func).split(".")[-1] == "Ending"]


def test_the_search_finds_an_ending_that_is_made_without_a_name():
    source = "Ending(status, result)\nfinish.Ending(status, result)\nEnding.completed()\nStandIn(Ending)"

    assert _made_without_a_name(source) == [1, 2]


def test_endings_are_made_by_their_constructors_only():
    folders = ("jobsite", "programs", "notifications", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path != HOME]
    raw = {path: _made_without_a_name(path.read_text()) for path in files}

    assert len(files) > 300
    assert not {path: lines for path, lines in raw.items() if lines}
