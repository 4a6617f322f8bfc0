"""Failpoints: none when off; with a plan, each fault happens where and as often as it says, and is recorded."""

import ast
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from jobsite import brokers, failpoints
from jobsite.env import ConfigurationError
from jobsite.failpoints import NAMES, POINTS, Plan, armed, failpoint, parse

ROOT = Path(__file__).resolve().parents[2]
TRANSITIONS = sorted((ROOT / "programs" / "transitions").glob("*.py"))


@failpoint("claim")
def claim() -> str:
    return "claimed"


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own, with only these failpoints in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBSITE_FAILPOINTS")}
    kept |= {"DJANGO_SETTINGS_MODULE": "jobsite.settings", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)


IS_WRAPPED = """
import django; django.setup()
from jobsite.programs.transitions.claim import claim
from jobsite import brokers
print(hasattr(claim, "__wrapped__"), hasattr(brokers._publish_to, "__wrapped__"))
"""


def test_without_the_variable_nothing_is_wrapped() -> None:
    ended = run(IS_WRAPPED)

    assert ended.stdout == "False False\n", ended.stderr


def test_with_the_variable_the_protocol_is_wrapped_even_without_a_plan() -> None:
    ended = run(IS_WRAPPED, JOBSITE_FAILPOINTS="")

    assert ended.stdout == "True True\n", ended.stderr


def test_without_the_variable_a_plan_cannot_be_armed() -> None:
    ended = run("from jobsite import failpoints\nwith failpoints.armed('claim.after=fail'): pass")

    assert "JOBSITE_FAILPOINTS was not set when jobsite was imported" in ended.stderr


def _failpoints_of(path: Path) -> dict[str, str | None]:
    """The functions of a module that take a cursor, each with the name of its failpoint."""
    found: dict[str, str | None] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "cursor":
            calls = [one for one in node.decorator_list if isinstance(one, ast.Call)]
            names = [call.args[0].value for call in calls if ast.unparse(call.func) == "failpoint"]  # type: ignore[attr-defined]
            if not node.name.startswith("_"):
                found[node.name] = names[0] if names else None
    return found


def test_every_protocol_statement_has_its_points_and_every_point_its_statement() -> None:
    functions = {f"{path.stem}.{name}": point for path in TRANSITIONS for name, point in _failpoints_of(path).items()}

    # Functions for one row call those for many. The others only read, or return statements.
    assert {name for name, point in functions.items() if point is None} == {
        *("finish.finish", "submit.insert"),
        *("cancel.ended_with_open_children", "resolve.waiting_without_open_child", "spawn.line"),
    }
    assert sorted([*filter(None, functions.values()), "publish", "record_firings"]) == sorted(NAMES)


def test_without_a_plan_a_function_works_as_usual() -> None:
    assert claim() == "claimed"


def test_before_and_after_are_two_points() -> None:
    done: list[str] = []

    @failpoint("finish")
    def finish() -> None:
        done.append("finished")

    with armed("finish.before=fail"), pytest.raises(psycopg.OperationalError, match=r"failpoint finish\.before"):
        finish()
    assert done == []
    with armed("finish.after=fail"), pytest.raises(psycopg.OperationalError, match=r"failpoint finish\.after"):
        finish()
    assert done == ["finished"]


def test_a_fault_happens_as_often_as_the_plan_says_and_is_recorded(tmp_path: Path) -> None:
    with armed("claim.before=fail*2", folder=tmp_path) as plan:
        ends = [_end_of_claim() for _ in range(4)]

    assert ends == ["failed", "failed", "claimed", "claimed"]
    assert plan.hits == ["claim.before=fail"] * 2
    lines = (tmp_path / "hits").read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [["claim.before=fail", str(os.getpid())]] * 2


def test_without_a_folder_only_this_process_is_counted() -> None:
    with armed("claim.before=fail*1"):
        ends = [_end_of_claim() for _ in range(3)]

    assert ends == ["failed", "claimed", "claimed"]
    assert claim() == "claimed"


def _end_of_claim() -> str:
    try:
        return claim()
    except psycopg.OperationalError:
        return "failed"


def test_processes_that_share_a_folder_share_the_count(tmp_path: Path) -> None:
    code = """
from jobsite.failpoints import failpoint
@failpoint("claim")
def claim(): pass
for _ in range(5): claim()
"""
    environment = {"JOBSITE_FAILPOINTS": "claim.before=stall:0.01*7", "JOBSITE_FAILPOINTS_FOLDER": str(tmp_path)}
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda _: run(code, **environment), range(3)))

    assert [one.returncode for one in ended] == [0, 0, 0], ended
    assert len((tmp_path / "hits").read_text().splitlines()) == 7


def test_kill_ends_the_process_and_leaves_its_line(tmp_path: Path) -> None:
    code = """
from jobsite.failpoints import failpoint
@failpoint("claim")
def claim(): print("claimed", flush=True)
claim()
print("lived on")
"""
    ended = run(code, JOBSITE_FAILPOINTS="claim.after=kill*1", JOBSITE_FAILPOINTS_FOLDER=str(tmp_path))

    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "claimed\n")
    assert (tmp_path / "hits").read_text().startswith("claim.after=kill ")


def test_stall_takes_its_time() -> None:
    began = time.monotonic()

    with armed("claim.after=stall:0.3*1"):
        assert claim() == "claimed"

    assert time.monotonic() - began >= 0.3


def test_chances_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    ends: dict[str, list[str]] = {}

    for place, seed in enumerate(("7", "7", "8")):
        (folder := tmp_path / str(place)).mkdir()
        with armed("claim.before=fail@0.3", folder=folder, seed=seed):
            ends[f"{place}"] = [_end_of_claim() for _ in range(200)]

    assert ends["0"] == ends["1"] != ends["2"]
    assert 30 < ends["0"].count("failed") < 90


def test_processes_have_chances_of_their_own(tmp_path: Path) -> None:
    first, second = Plan({}, tmp_path, "7"), Plan({}, tmp_path, "7")

    assert [first._random().random() for _ in range(3)] != [second._random().random() for _ in range(3)]


def test_publishing_fails_as_a_broker_does() -> None:
    message = brokers.Message("no.such.task", "default", ())

    with armed("publish.before=fail*1") as plan, pytest.raises(brokers.BrokerUnavailable):
        brokers.publish([message])

    assert plan.hits == ["publish.before=fail"]


def test_a_plan_names_several_points_and_actions() -> None:
    rules = parse("claim.after=kill*1; finish.before=stall:12*2@0.5 ;publish.before=fail@0.05;claim.after=fail;")

    assert [(rule.action, rule.seconds, rule.times, rule.chance) for rule in rules["claim.after"]] == [
        ("kill", 0.0, 1, 1.0),
        ("fail", 0.0, None, 1.0),
    ]
    assert (rules["finish.before"][0].seconds, rules["finish.before"][0].times) == (12.0, 2)
    assert (rules["finish.before"][0].chance, rules["publish.before"][0].chance) == (0.5, 0.05)


@pytest.mark.parametrize("point", ["", "claim", "claim.during", "unknown.before"])
def test_an_unknown_point_is_refused_with_the_known_ones(point: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(f"{point}=kill")

    assert f"names the point {point!r}, but the points are " in str(refusal.value)
    assert all(known in str(refusal.value) for known in POINTS)


@pytest.mark.parametrize(
    "wanted", ["", "die", "stall", "kill:3", "fail:1", "kill*", "kill*x", "fail@2", "fail@0", "fail@.", "stall:1.2.3"]
)
def test_an_unknown_action_is_refused_with_its_point(wanted: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(f"claim.after={wanted}")

    assert str(refusal.value) == (
        f"JOBSITE_FAILPOINTS has {wanted!r} at the point claim.after, but expected "
        "kill, stall:SECONDS or fail, then *TIMES and @PROBABILITY if wanted"
    )


def test_a_wrong_plan_ends_a_process_at_its_start() -> None:
    ended = run("import jobsite.failpoints", JOBSITE_FAILPOINTS="claim.later=kill")

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "jobsite.env.ConfigurationError: JOBSITE_FAILPOINTS names the point"
    )


def test_a_point_needs_its_name_in_the_list() -> None:
    with pytest.raises(ValueError, match="brew is not among the NAMES"):
        failpoint("brew")(lambda: None)


def test_the_tests_run_with_failpoints_but_without_a_plan() -> None:
    assert failpoints.IS_ON
    assert failpoints._plan.rules == {}
