"""jobsite schedules: the output and the refusals of its commands."""

from collections.abc import Callable

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from jobsite.programs.models import Program
from jobsite.tenants.models import Tenant
from tests import sample_tasks
from tests.cli.conftest import Answer

Run = Callable[..., Answer]


def test_a_preview_shows_the_line_in_words_its_next_times_and_the_change_of_clocks(run: Run) -> None:
    lines = run(
        *("schedules", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"),
        *("--from", "2026-10-23T12:00:00Z", "-n", "3"),
    ).out.splitlines()

    assert lines[0] == "At 02:30  in Europe/Berlin"
    assert [line.split()[:6] for line in lines[2:]] == [
        ["2026-10-24", "00:30", "UTC", "Sat", "2026-10-24", "02:30"],
        ["2026-10-25", "00:30", "UTC", "Sun", "2026-10-25", "02:30"],
        ["2026-10-26", "01:30", "UTC", "Mon", "2026-10-26", "02:30"],
    ]
    assert ["the clocks have changed" in line for line in lines[2:]] == [False, False, True]


def test_as_json_it_is_a_list_of_moments(run: Run) -> None:
    options = ["--cron", "0 9 * * 1-5", "--timezone", "Europe/Berlin", "--from", "2026-11-22T00:00:00Z", "-n", "2"]

    assert run("schedules", "preview", *options, "--json").json == [
        {"at": "2026-11-23T08:00:00.000Z", "local": "2026-11-23T09:00:00+01:00"},
        {"at": "2026-11-24T08:00:00.000Z", "local": "2026-11-24T09:00:00+01:00"},
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--cron", "0 25 * * 8"],
            "--cron: hour: expected 0 to 23, got '25'; day of week: expected 0 to 7",
        ),
        (["--cron", "0 9 * *"], "--cron: minute: expected five fields"),
        (["--cron", "0 0 31 2 *"], "--cron: day of month: 31 is no day of month 2, so that it never fires"),
        (["--cron", "* * * * *", "--timezone", "Mars/Berlin"], "--timezone: 'Mars/Berlin' is not an IANA time zone"),
        (["--cron", "* * * * *", "--from", "yesterday"], '--from: "yesterday" is not a time'),
        (["--cron", "* * * * *", "-n", "0"], "-n: expected 1 to 1,000, got 0"),
    ],
)
def test_a_wrong_preview_is_refused_in_one_sentence(run: Run, options: list[str], sentence: str) -> None:
    answer = run("schedules", "preview", *options)

    assert (answer.status, sentence in answer.err) == (2, True), answer.err
    assert answer.err.count("\n") == 1


# ---- Schedules of a tenant ------------------------------------------------------------------------------------


@pytest.fixture
def program(define: Callable[..., Program]) -> Program:
    return define(parameters={"type": "object", "properties": {"cohort": {"type": "integer"}}})


def create(run: Run, code: str = "nightly", *options: object) -> Answer:
    when = () if {"--cron", "--every"} & set(options) else ("--cron", "30 2 * * 1-5")
    return run("schedules", "create", code, "--program", "sample", *when, *options)


def test_an_empty_list_says_what_to_do(run: Run, tenant: Tenant) -> None:
    assert "No schedules yet. Make one with: jobsite schedules create" in run("schedules", "list").out


def test_a_schedule_is_made_listed_shown_changed_and_deleted(run: Run, program: Program) -> None:
    made = create(run, "nightly", "--timezone", "Europe/Berlin", "-p", "cohort=2026", "--priority", "5")
    assert made.out.startswith("nightly is created: At 02:30, Monday through Friday in Europe/Berlin, next ")

    [item] = run("schedules", "list", "--json").json
    assert (item["code"], item["cron"], item["parameters"]) == ("nightly", "30 2 * * 1-5", {"cohort": 2026})
    assert run("schedules", "change", "nightly", "--every", "90m", "--jitter", "7").status == 0
    shown = run("schedules", "show", "nightly", "--json").json
    assert (shown["cron"], shown["interval_minutes"], shown["jitter_minutes"]) == (None, 90, 7)
    assert (shown["priority"], shown["history"]) == (5, [])
    page = run("schedules", "show", "nightly").out
    assert "Every 90 minutes" in page
    assert "None of its times has come yet." in page
    assert "Every 90 minutes" in run("schedules", "list").out
    assert run("schedules", "delete", "nightly", "--reason", "no more").out == "nightly is deleted\n"
    assert run("schedules", "list", "--json").json == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--cron", "99 2 * * x"], "--cron: minute: expected 0 to 59, got '99'; --cron: day of week: expected 0 to 7"),
        (["--cron", "* * *"], "--cron: expected five fields, minute hour day-of-month month day-of-week, got 3"),
        (["--every", "20s"], "--every: expected whole minutes, got 20s"),
        (["--every", "8d"], "--every: expected 1 to 10,080 minutes, got 11520"),
        (["--every", "5"], '--every: "5" has no unit'),
        (["--every", "5m", "--cron", "* * * * *"], "give --cron or --every, not both"),
        (["--every", "5m", "--timezone", "Mars"], "--timezone: 'Mars' is no IANA time zone"),
        (["--every", "5m", "--parameters", '{"cohort": "x"}'], '-p: /cohort: expected integer, got string "x"'),
        (["--every", "5m", "--starts", "soon"], '--starts: "soon" is not a time'),
    ],
)
def test_wrong_options_are_refused_in_one_sentence_that_names_them(
    run: Run, program: Program, options: list[str], sentence: str
) -> None:
    answer = create(run, "nightly", *options)

    assert (answer.status, sentence in answer.err) == (2, True), answer.err
    assert answer.err.count("\n") == 1


def test_without_a_time_it_says_what_to_give(run: Run, program: Program) -> None:
    assert run("schedules", "create", "nightly", "--program", "sample").err == "jobsite: give --cron or --every\n"


def test_pause_resume_and_their_refusals(run: Run, program: Program) -> None:
    create(run)

    assert (
        run("schedules", "pause", "nightly", "--reason", "holiday").out == "nightly is paused; its times are skipped\n"
    )
    assert "PAUSED" in run("schedules", "list").out
    again = run("schedules", "pause", "nightly")
    assert (again.status, again.err) == (3, "jobsite: schedule nightly is paused already\n")
    assert run("schedules", "resume", "nightly").out == "nightly goes on\n"
    assert run("schedules", "pause", "nope").status == 2


def test_run_submits_a_job_now_and_prints_its_number(run: Run, program: Program) -> None:
    create(run, "nightly", "-p", "cohort=2026")

    answer = run("schedules", "run", "nightly")

    [job] = run("jobs", "list", "--json").json["items"]
    assert (answer.out, job["trigger"], job["parameters"]) == (f"{job['number']}\n", "MANUAL", {"cohort": 2026})


def test_a_backfill_counts_first_and_asks(run: Run, program: Program) -> None:
    create(run, "hourly", "--cron", "0 * * * *")
    span = ("--from", "2026-11-02T10:00:00Z", "--to", "2026-11-02T12:00:00Z")

    alone = run("schedules", "backfill", "hourly", *span)
    assert (alone.status, alone.out) == (2, "3 times of hourly to run.\n")
    assert "there is no terminal to confirm this; add --yes" in alone.err
    done = run("schedules", "backfill", "hourly", *span, "--yes", "--json")
    assert [one["at"] for one in done.json] == [f"2026-11-02T{hour}:00:00.000Z" for hour in (10, 11, 12)]
    assert "0 times of hourly to run; 3 more have a job already." in run("schedules", "backfill", "hourly", *span).out
    assert "backfill" in run("schedules", "show", "hourly").out


def test_the_preview_of_a_schedule_says_when_it_fires(run: Run, program: Program) -> None:
    create(run, "hourly", "--cron", "0 * * * *", "--jitter", "59")

    [one] = run("schedules", "preview", "hourly", "-n", "1", "--from", "2026-11-02T10:30:00Z", "--json").json

    assert one["at"] == "2026-11-02T11:00:00.000Z"
    assert run("schedules", "preview").err == "jobsite: give the code of a schedule, or a line with --cron\n"


def test_periodic_tasks_are_listed_and_imported(run: Run, tenant: Tenant) -> None:
    interval = IntervalSchedule.objects.create(every=2, period="hours")
    PeriodicTask.objects.create(name="Add", task=sample_tasks.add.name, interval=interval)

    trial = run("schedules", "import-periodic-tasks")
    assert "Nothing was changed." in trial.out
    assert PeriodicTask.objects.get().enabled
    assert run("schedules", "import-periodic-tasks", "--yes").status == 0
    assert [one["code"] for one in run("schedules", "list", "--json").json] == ["add"]
    assert run("schedules", "import-periodic-tasks", "--yes").status == 3


def test_without_periodic_tasks_it_says_so(run: Run, tenant: Tenant) -> None:
    assert run("schedules", "import-periodic-tasks").out == "There are no periodic tasks.\n"
