"""One run of one scenario in this process: servers, scenario, rest, checks, report."""

import signal
import time
import traceback
from types import FrameType

from django.core.management import call_command

from jobsite.programs.models import Schedule
from tests.chaos import checker
from tests.chaos.chaos import ENDED, Broken, Chaos, Report
from tests.chaos.faults import messages_waiting
from tests.chaos.installation import Installation
from tests.chaos.registry import Scenario

REST_SECONDS = 30.0


class OutOfTime(BaseException):
    """The run took longer than its scenario allows."""


def run(scenario: Scenario, installation: Installation, *, seed: int, size: float, grouped: bool) -> Report:
    """Run the scenario and report. Nothing is left running."""
    report = Report(scenario.name, seed, grouped)
    began = time.monotonic()
    chaos = Chaos(installation, report, size=size)
    signal.signal(signal.SIGALRM, _time_out)
    signal.signal(signal.SIGTERM, _time_out)
    signal.setitimer(signal.ITIMER_REAL, scenario.limit)
    try:
        installation.start()
        call_command("migrate", verbosity=0)
        Schedule.objects.update(next_at=None, due_at=None)  # no system program runs into a fault at the full hour
        chaos.say(f"seed {seed}: {scenario.title}")
        scenario.run(chaos)
        if grouped and scenario.groups:
            chaos.expect(chaos.database.number(LARGEST) > 1, "some jobs ran in a group")
        _come_to_rest(chaos)
        _check(chaos)
    except Exception as error:
        # An error in the scenario itself may be caused by a broken product, so it is reported like other findings.
        report.broken.append(f"{type(error).__name__}: {error}")
        report.broken += traceback.format_tb(error.__traceback__)[-3:]
        report.broken += checker.violations(chaos, at_rest=False)
    except OutOfTime:
        report.broken.append(f"the run was ended, or took more than {scenario.limit:g} s; jobs are {chaos.statuses()}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _count(chaos)
        chaos.fleet.kill_everything()
        chaos.database.close()
        report.seconds = round(time.monotonic() - began, 1)
    return report


def _time_out(_signal: int, _frame: FrameType | None) -> None:
    raise OutOfTime


def _come_to_rest(chaos: Chaos) -> None:
    """I13: when all jobs have ended, the brokers are empty, all processes stop on SIGTERM, and none is left."""

    def is_empty() -> bool:
        with chaos.installation.client() as client:
            return messages_waiting(client) == 0

    chaos.until(is_empty, "I13 the broker's lists are empty", seconds=REST_SECONDS)
    # SIGTERM kills a worker that still boots, as it does any process. So wait until all are ready.
    chaos.restart_ended_workers()
    for worker in chaos.fleet.workers.values():
        chaos.fleet.wait_until_ready(worker)
    statuses = chaos.fleet.stop_gracefully()
    wrong = {name: status for name, status in statuses.items() if status}
    chaos.expect(not wrong, f"workers ended with another status than 0: {wrong}")
    try:
        chaos.until(lambda: not chaos.fleet.strays(), "I13 no process is left behind", seconds=REST_SECONDS)
    except Broken:
        chaos.expect(False, f"I13 processes left behind: {chaos.fleet.strays()}")


def _check(chaos: Chaos) -> None:
    for sentence in checker.violations(chaos):
        chaos.expect(False, sentence)
    chaos.expect(bool(chaos.report.faults), "I15 some fault has really happened")


def _count(chaos: Chaos) -> None:
    report, database = chaos.report, chaos.database
    try:
        report.jobs = int(database.number("SELECT count(*) FROM jobsite_job"))
        report.not_ended = int(database.number(f"SELECT count(*) FROM jobsite_job WHERE NOT ({ENDED})"))
        report.runs_lost = chaos.losses()
        report.figures["largest group"] = int(database.number(LARGEST))
        report.figures |= {f"lost: {why}": count for why, count in database.rows(LOST)}
        report.completed_twice = int(database.number(TWICE))
        report.ran_twice = chaos.ledger.ran_twice()
    except Exception as error:  # the database may never have started; that is reported already
        report.broken.append(f"nothing could be counted: {error}")


LOST = """
SELECT replace(error->>'message', 'Worker lost during execution: ', ''), count(*) FROM jobsite_jobattempt
WHERE result = 'LOST' GROUP BY 1
"""
LARGEST = "SELECT max(n) FROM (SELECT count(*) AS n FROM jobsite_jobattempt GROUP BY external_id) g"
TWICE = """
SELECT count(*) FROM (SELECT job_id FROM jobsite_jobattempt WHERE result = 'SUCCESS'
                      GROUP BY job_id HAVING count(*) > 1) twice
"""
