"""A job of several steps whose worker dies: completed steps are not repeated."""

import os
import signal

from jobsite.programs.inspection import queries
from tests.flows.jobs import finished, history
from tests.flows.processes import is_alive, until

ACTIONS = [
    {"kind": "python", "name": name, "target": f"tests.sample_actions:{name}"}
    for name in ("fetch", "reckon", "deliver")
]


def shown(job):
    return [(step.name or step.action, step.status, step.tries) for step in queries.steps(job)]


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_a_job_of_three_actions_that_is_killed_in_the_third_repeats_only_that_one(define, submit, start_worker, folder):
    path = folder / "effects"
    define("three", action=ACTIONS, timeout="120s")
    start_worker("default", concurrency=1)
    job = submit("three", {"path": str(path), "seconds": 60})
    until(lambda: lines(path) == ["fetch 1", "reckon 1", "deliver 1"], "the third action runs")
    assert shown(job) == [("fetch", "COMPLETED", 1), ("reckon", "COMPLETED", 1), ("deliver", "RUNNING", 1)]
    child = int(path.with_suffix(".pid").read_text())

    os.kill(child, signal.SIGKILL)
    until(lambda: not is_alive(child), "the child is gone")
    ended = finished(job)

    assert (ended.status, history(ended)) == ("COMPLETED", ["LOST", "SUCCESS"])
    assert lines(path) == ["fetch 1", "reckon 1", "deliver 1", "deliver 2"]
    assert shown(ended) == [("fetch", "COMPLETED", 1), ("reckon", "COMPLETED", 1), ("deliver", "COMPLETED", 2)]
    assert ended.result == {"name": "deliver", "seen": ["fetch", "reckon"]}


def test_the_results_of_steps_that_ended_before_their_worker_died_are_used_by_the_next_run(
    define, submit, start_worker, folder
):
    path, go = folder / "effects", folder / "go"
    define("steps", target="tests.sample_actions:steps_then_wait", timeout="120s")
    doomed = start_worker("default", concurrency=1)
    job = submit("steps", {"path": str(path), "names": ["a", "b"], "go": str(go)})
    until(lambda: shown(job) == [("a", "COMPLETED", 1), ("b", "COMPLETED", 1)], "both steps have ended")

    doomed.kill()
    go.touch()
    start_worker("default", concurrency=1)
    ended = finished(job)

    assert (ended.status, history(ended)) == ("COMPLETED", ["LOST", "SUCCESS"])
    assert lines(path) == ["a 1", "b 1"]
    assert ended.result == {name: {"name": name, "pair": [1, 2]} for name in "ab"}
    assert shown(ended) == [("a", "COMPLETED", 1), ("b", "COMPLETED", 1)]
