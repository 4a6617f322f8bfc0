"""`jobsite bench --schedules`: what the report shows, and that a small run measures both schedulers."""

import json

import pytest
from rich.console import Console

from jobsite.bench.scheduling import Fired, Scheduling, document, table
from tests.bench.test_bench import _start

OURS = Fired("jobsite", 2_000, [0.1] * 1_980 + [0.5] * 20, 1.5, 100.0)
THEIRS = Fired("django-celery-beat", 2_000, [1.0] * 980 + [5.0] * 20, 30.0, 50.0)


def test_the_table_says_how_late_and_how_many_times_better() -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(table(Scheduling([OURS, THEIRS], 0.4)))
    lines = [line.split() for line in captured.get().splitlines()]

    assert lines[1] == ["jobsite", "2,000", "2,000", "0.10", "0.50", "0.50", "1.5", "100"]
    assert lines[2] == ["django-celery-beat", "2,000", "1,000", "1.00", "5.00", "5.00", "30.0", "50"]
    assert lines[3] == ["ratio", "10.0", "10.0", "10.0", "20.0", "0.5"]


def test_a_scheduler_that_fired_nothing_has_no_lateness() -> None:
    nothing = Fired("django-celery-beat", 10, [], 0.0, 50.0)

    told = document(Scheduling([OURS, nothing], 0.4))

    assert [one["late_p99"] for one in told["fired"]] == [0.5, None]
    assert [one["fired"] for one in told["fired"]] == [2_000, 0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_run_measures_both(tmp_path: object) -> None:
    process = _start(tmp_path, "--schedules", "20", "--rounds", "1", "--json")  # type: ignore[arg-type]
    out, err = process.communicate()

    assert process.returncode == 0, err
    told = json.loads(out)
    assert [(one["who"], one["fired"]) for one in told["fired"]] == [("jobsite", 20), ("django-celery-beat", 20)]
    assert told["idle_milliseconds"] < 50
