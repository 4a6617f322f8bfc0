"""jobsite jobs retry, acknowledge and --all: what they print, their refusals, their exit statuses."""

import json
import os
import pty
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from jobsite.programs.models import BulkAct, Job
from jobsite.tenants.models import AuditEntry, Membership, Role, Tenant
from tests.cli.conftest import Answer
from tests.programs.conftest import FAILURE, STUDENT_SCHEMA, Jobs

Run = Callable[..., Answer]

LOGIN_SCHEMA = {
    "type": "object",
    "properties": {"user": {"type": "string"}, "password": {"type": "string", "writeOnly": True}},
}


@pytest.fixture
def ended(run: Run, define: Any) -> int:
    """The number of a canceled job."""
    define("scores", parameters=STUDENT_SCHEMA)
    number = int(run("submit", "scores", "-p", "student=7", "-p", "term=winter", "--hold").out)
    run("jobs", "cancel", number)
    return number


@pytest.fixture
def failed(define: Any) -> Iterator[int]:
    """The number of a failed job."""
    program = define("scores", parameters=STUDENT_SCHEMA)
    with connection.cursor() as cursor:
        yield Jobs(cursor, define).ended(FAILURE, program=program, parameters='{"student": 7}')


def test_a_retry_prints_the_new_number(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "--reason", "it works now")

    new = Job.objects.get(number=int(answer.out))
    assert (answer.status, new.retry_of_id, new.parameters) == (0, ended, {"student": 7, "term": "winter"})
    assert AuditEntry.objects.get(action="retry").reason == "it works now"


def test_single_parameters_are_edited_by_their_types(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "-p", "student=8", "--json")

    assert answer.json["parameters"] == {"student": 8, "term": "winter"}
    assert answer.json["retry_of"] == ended


def test_all_parameters_are_replaced(run: Run, ended: int, tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({"student": 9}))

    assert run("jobs", "retry", ended, "--parameters", f"@{file}", "--json").json["parameters"] == {"student": 9}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("-p", "student=eight"), 2, "student"),
        (("-p", "nonsense=1"), 2, "nonsense"),
        (("--parameters", "{}"), 2, "student"),
        (("--parameters", "[1]"), 2, "--parameters must be a JSON object"),
        (("--as", "nobody"), 2, "no user nobody"),
        (("--as", "charlie"), 3, "user charlie is no active member of tenant acme"),
    ],
)
def test_a_wrong_retry_is_refused_in_one_line_and_makes_no_job(
    run: Run, ended: int, charlie: User, options: tuple[str, ...], status: int, words: str
) -> None:
    answer = run("jobs", "retry", ended, "--tenant", "acme", *options)

    assert (answer.status, answer.out) == (status, "")
    assert words in answer.err and answer.err.count("\n") == 1
    assert Job.objects.count() == 1


def test_a_retry_carries_secrets_only_where_nothing_is_edited(run: Run, define: Any) -> None:
    define("login", parameters=LOGIN_SCHEMA)
    number = int(run("submit", "login", "-p", "user=root", "-p", "password=tok-5511", "--hold").out)
    run("jobs", "cancel", number)

    edited = run("jobs", "retry", number, "-p", "user=admin")

    assert (edited.status, edited.out) == (2, "")
    assert f"/password is a secret of job {number}, carried only if nothing is edited; give it anew" in edited.err
    assert run("jobs", "retry", number, "--json").json["parameters"] == {"user": "root", "password": "••••"}


def test_a_retry_is_as_the_user_who_is_named(run: Run, ended: int, bob: User) -> None:
    assert run("jobs", "retry", ended, "--as", "bob", "--json").json["submitted_by"] == "bob"

    Membership.objects.filter(user=bob).update(role=Role.VIEWER)
    refused = run("jobs", "retry", ended, "--as", "bob")

    assert (refused.status, refused.err) == (3, "jobsite: bob lacks jobs:write in tenant acme\n")


def test_a_second_retry_is_refused_with_the_number_of_the_first(run: Run, ended: int) -> None:
    first = int(run("jobs", "retry", ended).out)

    again, open_one = run("jobs", "retry", ended), run("jobs", "retry", first)

    sentence = f"job {ended} is being retried by job {first} already, which is PENDING"
    assert (again.status, again.err) == (3, f"jobsite: {sentence}\n")
    assert (open_one.status, open_one.err) == (3, 'jobsite: Cannot retry a job with status "PENDING"\n')


def test_a_retry_can_be_waited_for(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "--wait", "--wait-timeout", "0.2", "--json")

    assert (answer.status, answer.json["retry_of"], answer.json["status"]) == (5, ended, "PENDING")


def test_both_jobs_name_each_other(run: Run, ended: int) -> None:
    first = int(run("jobs", "retry", ended).out)
    run("jobs", "cancel", first)
    second = int(run("jobs", "retry", ended).out)

    assert f"retried by    #{first}, #{second}" in run("jobs", "show", ended).out
    assert f"retry of      #{ended}" in run("jobs", "show", second).out


def test_acknowledging_says_what_was_done_and_what_needed_nothing(run: Run, failed: int) -> None:
    completed = int(run("submit", "scores", "-p", "student=1", "--hold").out)
    assert "jobsite jobs acknowledge" in run("jobs", "show", failed).out

    answer = run("jobs", "acknowledge", failed, completed, "--reason", "seen")

    assert answer.out == f"#{failed} is acknowledged\n#{completed} needs no review; left alone\n"
    assert run("jobs", "show", failed, "--json").json["needs_review"] is False
    assert AuditEntry.objects.get(action="acknowledge").reason == "seen"


def test_one_unknown_number_changes_no_job(run: Run, failed: int) -> None:
    answer = run("jobs", "acknowledge", failed, 10**9)

    assert (answer.status, answer.err) == (2, f"jobsite: no job {10**9}\n")
    assert Job.objects.get(number=failed).needs_review


@pytest.mark.parametrize("command", ["retry", "acknowledge"])
def test_a_job_of_another_tenant_is_not_there(run: Run, failed: int, other_tenant: Tenant, command: str) -> None:
    answer = run("jobs", command, failed, "--tenant", "umbrella")

    assert (answer.status, answer.err) == (2, f"jobsite: no job {failed}\n")


# ---- all that match ---------------------------------------------------------------------------------------


@pytest.fixture
def held(run: Run, define: Any) -> list[int]:
    """Three held jobs of one program and one of another."""
    define("scores", parameters=STUDENT_SCHEMA)
    define("marks")
    numbers = [int(run("submit", "scores", "-p", "student=7", "--hold").out) for _ in range(3)]
    return [*numbers, int(run("submit", "marks", "--hold").out)]


def test_the_matching_jobs_are_listed_before_the_act(run: Run, held: list[int]) -> None:
    answer = run("jobs", "cancel", "--all", "--program", "scores", "--status", "pending", "--yes", "--reason", "x")

    assert answer.status == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert lines[0] == ["3", "jobs", "to", "cancel:"]
    assert lines[2] == ["scores", "3", *", ".join(f"#{number}" for number in held[:3]).split()]
    assert lines[-1] == ["cancel:", "3", "done,", "0", "refused"]
    assert dict(Job.objects.values_list("number", "status")) == dict.fromkeys(held[:3], "CANCELED") | {
        held[3]: "PENDING"
    }
    row = BulkAct.objects.get()
    assert (row.filter, row.state, row.door) == ("--status pending --program scores", "ENDED", "cli")


@pytest.mark.parametrize(
    ("command", "after"), [("release", "release"), ("hold", "hold"), ("retry", "retry"), ("acknowledge", "acknowledge")]
)
def test_every_act_takes_all(run: Run, failed: int, command: str, after: str) -> None:
    waiting = int(run("submit", "scores", "-p", "student=1", *(["--hold"] if command == "release" else [])).out)
    options = ["--status", "FAILED"] if command == "retry" else []

    answer = run("jobs", command, "--all", "--yes", *options)

    assert (answer.status, answer.out.splitlines()[-1]) == (0, f"{command}: 1 done, 0 refused")
    target = waiting if command in ("hold", "release") else failed
    assert AuditEntry.objects.get(target_type="job").target == str(target)


def test_without_a_terminal_yes_is_required(run: Run, held: list[int]) -> None:
    answer = run("jobs", "cancel", "--all")

    assert (answer.status, answer.err) == (
        2,
        "jobsite: there is no terminal to confirm this; add --yes to do it without a question\n",
    )
    assert not Job.objects.exclude(status="PENDING").exists()
    assert not BulkAct.objects.exists()


@pytest.mark.parametrize(
    ("typed", "status"), [("y\n", "CANCELED"), ("n\n", "PENDING"), ("\n", "PENDING"), ("\x04", "PENDING")]
)
def test_on_a_terminal_it_asks(
    run: Run, held: list[int], monkeypatch: pytest.MonkeyPatch, typed: str, status: str
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, typed.encode())
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        answer = run("jobs", "cancel", "--all")
    os.close(keyboard)

    assert "Cancel 4 jobs? [y/N]" in answer.out
    assert ("Nothing was changed." in answer.out) == (status == "PENDING")
    assert answer.status == 0
    assert set(Job.objects.values_list("status", flat=True)) == {status}


def test_without_a_match_there_is_no_question(run: Run, held: list[int]) -> None:
    answer = run("jobs", "cancel", "--all", "--program", "nothing")

    assert (answer.status, answer.out) == (0, "No job to cancel matches.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cancel",), "give a job's number, or --all"),
        (("acknowledge",), "give a job's number, or --all"),
        (("cancel", "7", "--all"), "not both"),
        (("acknowledge", "7", "--all"), "not both"),
        (("cancel", "7", "--status", "PENDING"), "--status goes with --all"),
        (("cancel", "7", "--yes"), "--yes goes with --all"),
        (("hold", "7", "--submitted-until", "1h"), "--submitted-until goes with --all"),
        (("cancel", "--all", "--status", "LOST"), "unknown status LOST"),
        (("cancel", "--all", "--since", "soon"), "--since: "),
        (("hold", "--all", "--yes", "--until", "soon"), "until: "),
        (("retry", "--all", "--yes"), "name a status"),
        (("retry", "--all", "-p", "student=7"), "-p goes with one job"),
        (("retry", "--all", "--wait"), "--wait goes with one job"),
    ],
)
def test_wrong_options_with_all_are_refused_in_one_line(
    run: Run, held: list[int], arguments: tuple[str, ...], words: str
) -> None:
    if arguments[0] == "hold" and "--all" in arguments:
        run("submit", "marks")

    answer = run("jobs", *arguments)

    assert answer.status == 2
    assert words in answer.err and answer.err.count("\n") == 1
    assert not BulkAct.objects.exists()


def test_a_refused_job_is_named_and_the_others_are_done(run: Run, failed: int) -> None:
    another = int(run("jobs", "retry", failed).out)
    run("jobs", "cancel", another)
    first = int(run("jobs", "retry", failed).out)
    run("jobs", "cancel", first)
    open_one = int(run("jobs", "retry", another).out)

    answer = run("jobs", "retry", "--all", "--status", "CANCELED", "--yes")

    assert answer.status == 3
    assert "retry: 1 done, 1 refused\n" in answer.out
    why = f"job {another} is being retried by job {open_one} already, which is PENDING"
    assert f"  #{another}: {why}\n" in answer.out


def test_all_does_not_reach_another_tenant(run: Run, held: list[int], other_tenant: Tenant) -> None:
    answer = run("jobs", "cancel", "--all", "--yes", "--tenant", "umbrella")

    assert answer.out == "No job to cancel matches.\n"
    assert set(Job.objects.values_list("status", flat=True)) == {"PENDING"}


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_stops_between_two_jobs_and_prints_how_many_are_done(run: Run, define: Any) -> None:
    with connection.cursor() as cursor:
        Jobs(cursor, define).many(2_000)
    is_over = threading.Event()

    def press() -> None:
        try:
            while not BulkAct.objects.filter(done__gt=0).exists():
                assert not is_over.wait(0.005)
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pressed = pool.submit(press)
        answer = run("jobs", "cancel", "--all", "--yes")
        is_over.set()
        pressed.result()

    row = BulkAct.objects.get()
    assert answer.status == 130
    assert row.state == "STOPPED"
    assert 0 < row.done < 2_000
    assert Job.objects.filter(status="CANCELED").count() == row.done
    assert f"Stopped after {row.done} of 2,000 jobs (stopped by local:" in answer.out
