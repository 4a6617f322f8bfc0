"""Parents and children with real workers: waiting, callbacks, cancels and killed processes."""

import os
import signal

from jobsite.programs import operations
from jobsite.programs.models import Job
from tests.flows.jobs import finished, history, running
from tests.flows.processes import is_alive, until


def python(target, **keys):
    return {"kind": "python", "target": f"tests.sample_actions:{target}"} | keys


def family(job):
    return Job.objects.filter(parent=job.number).order_by("number")


def waiting(job):
    return until(
        lambda: Job.objects.filter(number=job.number, status="WAITING").first(), f"job {job.number} waits", seconds=20
    )


def test_a_parent_waits_without_a_worker_and_its_callback_sees_the_results_of_the_children(
    define, submit, start_worker, folder
):
    define("child", target="tests.sample_actions:echo")
    define(
        "parent",
        action=[python("spawn_each", name="spawn")],
        callback=python("add_up"),
    )
    # There is one child process: the parent must free it for its children.
    start_worker("default", concurrency=1)

    job = finished(submit("parent", {"program": "child", "children": [{"value": n} for n in (3, 5, 8)]}))

    assert (job.status, job.outcome, history(job)) == ("COMPLETED", "NORMAL", ["PARKED", "SUCCESS"])
    assert job.result == {
        "statuses": ["COMPLETED"] * 3,
        "results": [3, 5, 8],
        "errors": [None] * 3,
        "attempt": 1,
        "before": {"spawn": {"spawned": 3}},
    }
    assert {(child.trigger, child.status, child.context_id) for child in family(job)} == {
        ("CHILD", "COMPLETED", job.context_id)
    }


def test_a_parent_killed_after_it_spawned_has_each_child_once(define, submit, start_worker, folder):
    path, go = folder / "told", folder / "go"
    define("child", target="tests.sample_actions:echo")
    define("parent", target="tests.sample_actions:spawn_then_wait", timeout="120s")
    start_worker("default", concurrency=2)
    children = [{"value": 1}, {"value": 2}, {"value": 1}]
    job = submit("parent", {"program": "child", "children": children, "path": str(path), "go": str(go)})
    until(path.exists, "it has spawned")
    child = int(path.with_suffix(".pid").read_text())

    os.kill(child, signal.SIGKILL)
    until(lambda: not is_alive(child), "its process is gone")
    go.touch()
    ended = finished(job)

    assert (ended.status, history(ended)) == ("COMPLETED", ["LOST", "SUCCESS"])
    assert path.read_text().splitlines() == ["spawned 3 under 1", "spawned 3 under 2"]
    assert [one.result for one in family(job)] == [1, 2, 1]


def test_canceling_a_parent_cancels_all_its_descendants(define, submit, start_worker, folder, operator):
    go = folder / "go"
    define("grandchild", target="tests.sample_actions:wait_for", timeout="120s")
    define("child", target="tests.sample_actions:spawn_each")
    define("parent", target="tests.sample_actions:spawn_each")
    start_worker("default", concurrency=1)
    below = {"program": "grandchild", "children": [{"path": str(go)}, {"path": str(go), "seconds": 31}]}
    job = submit("parent", {"program": "child", "children": [below]})
    [child] = family(waiting(job))
    first, second = until(lambda: list(family(child))[1:] and list(family(child)), "the grandchildren are there")
    running(first)

    assert operations.jobs.cancel(operator, job.number, reason="wrong year") == "CANCELED"

    assert (finished(child).status, finished(second).status) == ("CANCELED", "CANCELED")
    stopped = finished(first)
    assert (stopped.status, history(stopped)) == ("CANCELED", ["CANCELED"])
    assert stopped.cancel_reason == f"its parent, job {child.number}, is CANCELED"


def test_a_chain_of_children_each_with_the_result_of_the_one_before(define, submit, start_worker):
    define("link", target="tests.sample_actions:link")
    define("chain", action=[python("succeed")], callback=python("next_link"))
    start_worker("default", concurrency=1)

    job = finished(submit("chain", {"program": "link", "children": [{"name": name} for name in "abc"]}))

    assert job.result == ["begin > a", "begin > a > b", "begin > a > b > c"]
    assert history(job) == ["PARKED"] * 4 + ["SUCCESS"]
