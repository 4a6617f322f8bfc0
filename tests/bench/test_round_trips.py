"""How many round trips to the database a job costs."""

from pathlib import Path
from typing import Any
from uuid import uuid4

from jobsite.programs import execution, workers
from jobsite.programs.models import Job
from jobsite.tenants.models import Tenant


def test_a_job_alone_in_its_message_costs_three_or_four_round_trips_to_the_database(
    db: None, tenant: Tenant, define: Any, submit: Any, tmp_path: Path
) -> None:
    define("noop", target="jobsite.samples:noop")
    numbers = [submit("noop").number for _ in range(20)]
    with workers.connection().cursor() as cursor:
        workers.become(
            workers.register(cursor, name="bench@here", manager="default", queues=["default"], pool="solo", children=1)
        )
    trace = tmp_path / "trace"

    def run(number: int) -> None:
        Job.objects.filter(number=number, status="PENDING").update(status="QUEUED")
        assert execution.run([number], message=uuid4()) == 1

    for number in numbers[:10]:
        run(number)  # the caches fill, the statements are prepared
    with trace.open("wb") as file:
        workers.connection().pgconn.trace(file.fileno())
        for number in numbers[10:]:
            run(number)
        workers.connection().pgconn.untrace()

    trips = trace.read_text(errors="replace").count("ReadyForQuery")
    # Claim, finish, a check whether the window has room, and a dispatch where it has. Once a second the program's mean;
    # now and then new plans.
    assert 30 <= trips <= 43
    workers.drop_connection()
