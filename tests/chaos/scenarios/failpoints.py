"""R3: at every failpoint a kill, a failure and a stall for longer than a lock; a sample of them for each seed."""

from pathlib import Path

from jobsite.failpoints import POINTS
from tests.chaos import faults
from tests.chaos.chaos import Chaos
from tests.chaos.installation import LOCK_SECONDS
from tests.chaos.registry import scenario
from tests.chaos.submitter import Kind

# The points that workers, beat and submitters reach in such a run. The others need an operator's act.
REACHED = ("submit", "dispatch", "offer", "wake", "publish", "claim", "renew", "abandoned", "finish",
           "reap_child", "reap_expired", "expire_stuck", "end_holds", "unblock")  # fmt: skip
ACTIONS = ("kill", "fail", f"stall:{LOCK_SECONDS + 2:g}")
SAMPLE = 14
JOBS = 20


@scenario("R3", limit=900)
def all_failpoints(chaos: Chaos) -> None:
    """At a sample of the protocol's points, a process dies, fails or stalls, twice each, with twenty jobs."""
    for code in ("noop", "short"):
        chaos.program(code, short=code == "noop")
    chaos.fleet.service()
    plans = [f"{point}={action}*2" for point in POINTS if point.split(".")[0] in REACHED for action in ACTIONS]
    chosen = chaos.random.sample(plans, min(len(plans), chaos.count(SAMPLE)))
    for place, plan in enumerate(chosen):
        _break(chaos, plan, place)


def _break(chaos: Chaos, plan: str, place: int) -> None:
    folder = chaos.installation.folder / f"failpoints-{place}"
    folder.mkdir()
    chaos.say(f"{place + 1}: {plan}")
    environment = chaos.installation.environment
    environment |= {
        "JOBSITE_FAILPOINTS": plan,
        "JOBSITE_FAILPOINTS_FOLDER": str(folder),
        "JOBSITE_FAILPOINTS_SEED": str(chaos.report.seed),
    }
    for name in ("w1", "w2"):
        chaos.fleet.worker(name, wait=False)
    kinds = [Kind(0.5, "noop", {}), Kind(0.5, "short", {"seconds": 0.4})]
    # The first submitter may be the process that dies. Another one submits the rest.
    doomed = chaos.submitter(kinds, count=JOBS // 2, prefix=f"doomed{place}")
    doomed.name = f"doomed-{place}"
    chaos.until(
        lambda: not doomed.is_running,
        "the first submitter has ended",
        seconds=90,
        meanwhile=chaos.restart_ended_workers,
    )
    environment["JOBSITE_FAILPOINTS"] = plan if "kill" not in plan else ""
    chaos.submitter(kinds, count=JOBS // 2, prefix=f"s{place}")
    environment["JOBSITE_FAILPOINTS"] = plan
    chaos.until(lambda: faults.kill_somebody_at_work(chaos) or _is_over(chaos), "somebody is at work", seconds=60,
                meanwhile=chaos.restart_ended_workers)  # fmt: skip
    chaos.all_ended(seconds=120, meanwhile=chaos.restart_ended_workers)
    hits = _hits(folder)
    chaos.report.faults[plan.split("*")[0]] += hits
    point = plan.split(".")[0]
    if point not in ("reap_child", "reap_expired", "submit"):
        chaos.expect(hits > 0, f"{plan} was reached")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"{plan}: all jobs COMPLETED, not {chaos.statuses()}")
    for worker in list(chaos.fleet.workers.values()):
        worker.kill()


def _is_over(chaos: Chaos) -> bool:
    return not any(one.is_running for one in chaos.fleet.others if one.name.startswith("submitter"))


def _hits(folder: Path) -> int:
    file = folder / "hits"
    return len(file.read_text().splitlines()) if file.exists() else 0
