"""jobsite secrets rotate, and what the other commands show of a secret."""

from collections.abc import Callable
from typing import Any

import pytest

from jobsite.programs import submission
from jobsite.programs.models import Job
from jobsite.tenants.principals import Principal
from jobsite.values.masking import MASK
from tests.cli.conftest import Answer

Run = Callable[..., Answer]
CLEAR = "hunter2-in-clear"
SCHEMA = {
    "type": "object",
    "properties": {"user": {"type": "string"}, "password": {"type": "string", "minLength": 8, "writeOnly": True}},
}
NEW = "quite another key than the tests have"


@pytest.fixture
def login(define: Callable[..., Any]) -> None:
    define("login", parameters=SCHEMA)


@pytest.fixture
def numbers(login: None, operator: Principal) -> list[int]:
    return [submission.submit_as(operator, "login", {"password": CLEAR}).number for _ in range(3)]


def test_rotating_prints_how_many_jobs_were_changed(run: Run, numbers: list[int], settings: Any) -> None:
    settings.JOBSITE_SECRET_KEYS = (NEW, *settings.JOBSITE_SECRET_KEYS)

    answer = run("secrets", "rotate")

    assert (answer.status, answer.err) == (0, "")
    assert answer.out == "3 of 3 jobs with secrets are encrypted again, with the newest key.\n"
    again = run("secrets", "rotate", "--json")
    nothing = {
        "jobs": 3,
        "changed": 0,
        "lost": 0,
        "lost_jobs": [],
        "webhooks_changed": 0,
        "lost_programs": [],
        "schedules_changed": 0,
        "lost_schedules": [],
        "rules_changed": 0,
        "lost_rules": [],
    }
    assert (again.status, again.json) == (0, nothing)


def test_rotating_with_nothing_to_do_is_fine(run: Run) -> None:
    assert run("secrets", "rotate").out == "0 of 0 jobs with secrets are encrypted again, with the newest key.\n"


def test_jobs_that_no_key_decrypts_are_named_and_the_status_is_3(
    run: Run, numbers: list[int], operator: Principal, settings: Any
) -> None:
    numbers += [submission.submit_as(operator, "login", {"password": CLEAR}).number for _ in range(20)]
    settings.JOBSITE_SECRET_KEYS = (NEW,)

    answer = run("secrets", "rotate")

    assert answer.status == 3
    assert answer.out.startswith("0 of 23 jobs")
    named = ", ".join(map(str, numbers[:20]))
    assert answer.err == (
        f"jobsite: the secrets of 23 jobs ({named}, …) cannot be decrypted with any of JOBSITE_SECRET_KEYS; "
        "add the key that they were encrypted with, then rotate again\n"
    )
    as_json = run("secrets", "rotate", "--json")
    assert (as_json.status, as_json.json["lost"], as_json.json["lost_jobs"]) == (3, 23, numbers[:20])


def test_bad_usage_is_one_line_and_status_2(run: Run) -> None:
    for arguments in (["secrets"], ["secrets", "turn"], ["secrets", "rotate", "--tenant", "acme"]):
        answer = run(*arguments)
        assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)


def test_a_secret_is_submitted_as_plain_text_and_shown_masked(run: Run, login: None) -> None:
    submitted = run("submit", "login", "-p", "user=bob", "-p", f"password={CLEAR}", "--json")
    number = submitted.json["number"]

    shown = run("jobs", "show", number)
    as_json = run("jobs", "show", number, "--json")
    listed = run("jobs", "list", "--json")

    assert submitted.json["parameters"] == {"user": "bob", "password": MASK}
    assert as_json.json["parameters"] == listed.json["items"][0]["parameters"] == submitted.json["parameters"]
    assert f'"password": "{MASK}"' in shown.out
    for answer in (submitted, shown, as_json, listed):
        assert CLEAR not in answer.out + answer.err
        assert "$secret" not in answer.out


def test_a_secret_that_is_refused_is_not_repeated(run: Run, login: None) -> None:
    answer = run("submit", "login", "-p", "password=hunter2")

    assert answer.status == 2
    assert answer.err == (
        f"jobsite: parameters of login: /password expected at least 8 characters, got string {MASK}\n"
    )
    smuggled = run("submit", "login", "--parameters", '{"password": {"$secret": "gAAAA"}}')
    assert smuggled.status == 2
    assert '/password has the key "$secret", which is reserved' in smuggled.err
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("keys", "is_good", "said"),
    [
        (("k" * 43, "o" * 32), True, "2, long enough"),
        (("k" * 43, "abc-1"), False, "too short in JOBSITE_SECRET_KEYS (at least 32 characters): key 2"),
        (("abc-1", "abc-2"), False, "too short in JOBSITE_SECRET_KEYS (at least 32 characters): key 1, 2"),
        (("k" * 43, "k" * 43), False, "JOBSITE_SECRET_KEYS names a key twice"),
        ((), False, "JOBSITE_SECRET_KEYS is empty"),
    ],
)
def test_the_doctor_checks_the_keys_and_shows_none(
    run: Run, settings: Any, keys: tuple[str, ...], is_good: bool, said: str
) -> None:
    settings.JOBSITE_SECRET_KEYS = keys

    answer = run("doctor", "--json")

    [found] = [one for one in answer.json if one["what"] == "secret keys"]
    assert (found["is_good"], found["said"]) == (is_good, said)
    assert not [key for key in keys if key in answer.out]
