"""Secret parameters from submission to end: encrypted in the row, in clear for the action, visible nowhere else."""

import json
import logging
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.contrib.auth.models import User
from django.db import connection

from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.programs import operations
from jobsite.programs.definitions import DefinitionError
from jobsite.programs.inspection import presentation
from jobsite.programs.models import Job, JobAttempt, JobLogEntry
from jobsite.programs.parameters import secrets
from jobsite.programs.parameters.secrets import SecretLost
from jobsite.programs.submission import Options, submit, submit_as, submit_many
from jobsite.tenants import principals
from jobsite.tenants.models import Membership, Role
from jobsite.values.masking import MASK
from tests.programs.conftest import a_claimed, a_context

PASSWORD = 'zürich"7\\ qzx-vw'
PEM = "-----BEGIN KEY-----\nMIIBOgIBAAJBAKj34Gk\nxFhD90vcNLYLInFEX6P\n-----END KEY-----\n"
GIVEN = {"password": PASSWORD, "pin": 90210, "accounts": [{"user": "root", "token": "tok-5511"}], "key": PEM}
# Parts of the secrets that every way of writing them has in common.
TRACES = ("qzx-vw", "90210", "tok-5511", "MIIBOgIBAAJ", "xFhD90vcNL")
SCHEMA = {
    "type": "object",
    "properties": {
        "how": {"type": "string"},
        "password": {"type": "string", "writeOnly": True},
        "pin": {"type": "integer", "writeOnly": True},
        "accounts": {"items": {"properties": {"token": {"$ref": "#/$defs/token"}}}},
        "key": {"type": "string", "writeOnly": True},
    },
    "$defs": {"token": {"type": "string", "writeOnly": True}},
}
MESSAGE = UUID(int=7)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_log_of_earlier_tests(cursor):
    """No model manages the table of the log, so that nothing else empties it."""
    cursor.execute("TRUNCATE jobsite_joblogentry")


@pytest.fixture
def login(define):
    return define("login", target="tests.sample_actions:betray", parameters=SCHEMA)


@pytest.fixture
def measured(define):
    schema = {"type": "object", "properties": {"value": {"type": "string", "writeOnly": True}}}
    return define("measure", target="tests.sample_actions:measure", parameters=schema)


def whole_database() -> str:
    """Every row of every table, as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        text = ""
        for table in tables:
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            text += "\n".join(row for (row,) in cursor.fetchall())
    return text


def traces(text: str) -> list[str]:
    return [trace for trace in TRACES if trace in text]


# ---- the row ---------------------------------------------------------------------------------------------


def test_each_secret_is_encrypted_by_itself_and_all_else_is_stored_in_clear(operator, login, jobs):
    job = jobs.row(submit_as(operator, "login", {"how": "open", **GIVEN}).number)

    stored = job.parameters
    assert job.has_secrets
    assert stored["how"] == "open"
    assert stored["accounts"][0]["user"] == "root"
    sealed = [stored["password"], stored["pin"], stored["key"], stored["accounts"][0]["token"]]
    assert all(one.keys() == {"$secret"} for one in sealed)
    assert len({one["$secret"] for one in sealed}) == 4
    assert secrets.opened(stored)[0] == {"how": "open", **GIVEN}
    assert not traces(whole_database())


def test_a_job_whose_secrets_were_not_given_has_none(operator, login, jobs):
    job = jobs.row(submit_as(operator, "login", {"how": "open"}).number)

    assert (job.has_secrets, job.parameters) == (False, {"how": "open"})


def test_the_secrets_of_many_jobs_are_each_encrypted(tenant, bob, define, login, jobs):
    define("open")
    wanted = [{"program": "login", "parameters": {"password": PASSWORD}}, {"program": "open"}] * 3

    rows = [jobs.row(number) for number in submit_many(tenant=tenant, jobs=wanted, user=bob)]

    assert [row.has_secrets for row in rows] == [True, False] * 3
    assert len({row.parameters["password"]["$secret"] for row in rows[::2]}) == 3
    assert not traces(whole_database())


def test_an_error_in_many_jobs_reveals_no_secret(tenant, bob, login):
    wanted = [{"program": "login", "parameters": {"pin": PASSWORD}}]

    with pytest.raises(Invalid) as refusal:
        submit_many(tenant=tenant, jobs=wanted, user=bob)

    assert refusal.value.details["errors"] == [
        {"pointer": "/jobs/0/parameters/pin", "message": f"expected integer, got string {MASK}"}
    ]
    assert not traces(repr(refusal.value))


def test_a_repeated_request_is_recognized_by_its_clear_parameters(operator, login):
    options = Options(idempotency_key="k")
    first = submit_as(operator, "login", GIVEN, options)

    assert submit_as(operator, "login", GIVEN, options).number == first.number
    with pytest.raises(Conflict, check=lambda refusal: refusal.code == "idempotency_key_reused"):
        submit_as(operator, "login", GIVEN | {"pin": 90211}, options)


def test_a_duplicate_is_refused_by_a_key_beside_the_secrets(operator, define):
    define("login", parameters=SCHEMA, overlap="REJECT", overlap_keys=["how"])
    submit_as(operator, "login", {"how": "a", "password": PASSWORD})

    submit_as(operator, "login", {"how": "b", "password": PASSWORD})
    with pytest.raises(Conflict, check=lambda refusal: refusal.code == "duplicate_job"):
        submit_as(operator, "login", {"how": "a", "password": "another"})


def test_a_program_whose_overlap_key_is_a_secret_is_not_saved(define):
    with pytest.raises(DefinitionError, match="/properties/password"):
        define("login", parameters=SCHEMA, overlap="REJECT", overlap_keys=["password"])


def test_a_value_that_looks_encrypted_is_refused_by_every_program(operator, define, login, jobs):
    define("open")
    stolen = jobs.row(submit_as(operator, "login", {"password": PASSWORD}).number).parameters["password"]

    for code in ("login", "open"):
        with pytest.raises(Invalid) as refusal:
            submit_as(operator, code, {"how": stolen})
        assert refusal.value.details["errors"][0]["pointer"] == "/how"
    assert Job.objects.count() == 1


def test_a_secret_may_be_as_large_as_parameters_may_be(operator, measured, run_job):
    large = "x" * 65_000

    assert run_job(submit_as(operator, "measure", {"value": large}).number).result == {"length": 65_000}
    with pytest.raises(Invalid, match="more than 65,536 bytes"):
        submit_as(operator, "measure", {"value": large + "x" * 1_000})


# ---- the run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "status"), [("return", "COMPLETED"), ("fail", "FAILED"), ("again", "PENDING")])
def test_a_secret_appears_nowhere_even_if_its_action_prints_it_everywhere(
    operator, login, run_job, broker, how, status
):
    heard: list[str] = []
    handler = logging.StreamHandler()
    handler.emit = lambda record: heard.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        number = submit_as(operator, "login", {"how": how, **GIVEN}, Options(idempotency_key="k")).number
        sent = "".join(str(broker.client.dump(key)) for key in broker.client.scan_iter())
        sent += "".join(map(str, broker.messages()))
        job = run_job(number)
    finally:
        logging.getLogger().removeHandler(handler)

    assert job.status == status
    assert broker.numbers() == [number]
    assert not traces(sent)
    assert not traces(whole_database())
    assert not traces("\n".join(heard))
    lines = list(JobLogEntry.objects.filter(job_number=number).values_list("message", flat=True))
    assert len(lines) == 7
    assert ["LookupError: caught" in one for one in heard] == [False, True, True, False]
    assert all(MASK in line for line in lines)
    assert "root" in lines[0]
    assert MASK in json.dumps(job.progress, ensure_ascii=False)
    if how == "return":
        assert job.result["all"]["accounts"] == [{"user": "root", "token": MASK}]
        assert job.result["all"]["pin"] == MASK
    else:
        assert MASK in job.error["message"]
        assert "ValueError" in (trace := JobAttempt.objects.get().traceback) or "TransientError" in trace
        assert MASK in trace


def test_the_action_gets_its_secrets_in_clear(operator, measured, run_job):
    assert run_job(submit_as(operator, "measure", {"value": PASSWORD}).number).result == {"length": len(PASSWORD)}


def test_the_parameters_of_a_context_are_a_dict_that_does_not_show_its_secrets():
    stored = secrets.encrypted({"a": {"b": PASSWORD}, "c": 1}, [("a", "b")])
    claimed = a_claimed(parameters=stored, has_secrets=True)

    context = a_context(claimed)

    assert context.parameters == {"a": {"b": PASSWORD}, "c": 1}
    assert json.loads(json.dumps(context.parameters)) == context.parameters
    assert repr(context.parameters) == f"{context.parameters}" == repr({"a": {"b": MASK}, "c": 1})
    assert not traces(repr(claimed) + repr(context) + repr(vars(context)))


def test_a_job_without_secrets_has_nothing_to_hide():
    context = a_context(a_claimed(parameters={"a": {"$secret": "as it was stored"}}))

    assert context.mask is None
    assert context.parameters == {"a": {"$secret": "as it was stored"}}


COMMAND = 'printf \'%s\\n%s\\n\' "$1" "$KEY"; printf \'%s\\n\' "$1" >&2; exit ${2}'


@pytest.mark.parametrize(("status", "ended"), [("0", "COMPLETED"), ("3", "FAILED")])
def test_a_command_gets_its_secrets_and_they_are_hidden_in_its_output(operator, define, run_job, status, ended):
    argv = ["sh", "-c", COMMAND, "sh", "{{ parameters.password }}", "{{ parameters.how }}"]
    action = {"kind": "command", "argv": argv, "env": {"KEY": "{{ parameters.key }}"}}
    define("login", action=[action], parameters=SCHEMA)

    job = run_job(submit_as(operator, "login", {"how": status, **GIVEN}).number)

    assert job.status == ended
    rows = JobLogEntry.objects.filter(job_number=job.number).order_by("sequence")
    out = list(rows.filter(stream="stdout").values_list("message", flat=True))
    assert out[:5] == [MASK] * 5  # the password, and the lines of the key
    assert list(rows.filter(stream="stderr").values_list("message", flat=True)) == [MASK]
    assert not traces(whole_database())
    if ended == "FAILED":
        assert job.error["message"] == f"sh ended with status 3: {job.error['message'].partition(': ')[2]}"


def test_a_secret_at_the_end_of_a_cut_line_is_hidden(operator, define, run_job):
    secret = "".join(f"{number:05}" for number in range(400))
    argv = ["sh", "-c", 'for n in $(seq 20); do printf %s "$1"; done', "sh", "{{ parameters.password }}"]
    define("login", action=[{"kind": "command", "argv": argv}], parameters=SCHEMA)

    job = run_job(submit_as(operator, "login", {"password": secret}).number)

    line = JobLogEntry.objects.get(job_number=job.number).message
    assert line.startswith(MASK * 2)
    assert "bytes cut" in line
    assert "00001" not in line


def test_a_job_whose_key_is_lost_fails_for_good_before_anything_runs(operator, login, run_job, settings):
    number = submit_as(operator, "login", GIVEN).number
    settings.JOBSITE_SECRET_KEYS = ("quite another key than before",)

    job = run_job(number)

    assert (job.status, job.failure_kind, job.attempts) == ("FAILED", "PERMANENT", 1)
    assert job.error == {
        "type": "SecretLost",
        "message": "parameter /key cannot be decrypted with any of JOBSITE_SECRET_KEYS; "
        "put back the key that it was encrypted with, or submit the job again",
        "step": None,
    }
    assert not JobLogEntry.objects.filter(job_number=number).exists()
    assert JobAttempt.objects.get().traceback == ""


def test_a_program_cannot_make_a_lost_key_transient(operator, define, run_job, settings):
    define("login", parameters=SCHEMA, transient=["SecretLost"])
    number = submit_as(operator, "login", GIVEN).number
    settings.JOBSITE_SECRET_KEYS = ("quite another key than before",)

    assert run_job(number).status == "FAILED"


def test_a_job_runs_with_an_older_key_too(operator, login, run_job, settings):
    number = submit_as(operator, "login", GIVEN).number
    settings.JOBSITE_SECRET_KEYS = ("the newest", *settings.JOBSITE_SECRET_KEYS)

    assert run_job(number).status == "COMPLETED"


def test_a_damaged_secret_is_lost():
    for damaged in ("", "gAAAA", "ä", 5, None, {}):
        with pytest.raises(SecretLost, match="parameter /a cannot be decrypted"):
            secrets.opened({"a": {"$secret": damaged}})


def test_no_fingerprint_is_made_with_a_key_that_encrypts(settings):
    settings.JOBSITE_SECRET_KEYS = (Fernet.generate_key().decode(),)
    token = secrets.encrypted({"a": "x"}, [("a",)])["a"]["$secret"]

    with pytest.raises(InvalidToken):
        Fernet(settings.JOBSITE_SECRET_KEYS[0]).decrypt(token)


# ---- a retry -----------------------------------------------------------------------------------------------


@pytest.fixture
def failed(operator, login, jobs, run_job):
    """A failed job that had secrets."""
    job = run_job(submit_as(operator, "login", {"how": "fail", **GIVEN}).number)
    assert job.status == "FAILED"
    return job


def test_a_retry_with_unchanged_parameters_carries_the_secrets(bob_principal, failed, jobs):
    retry = jobs.row(operations.jobs.retry(bob_principal, failed.number).number)

    assert retry.has_secrets
    assert secrets.opened(retry.parameters)[0] == {"how": "fail", **GIVEN}
    assert retry.parameters["password"] != failed.parameters["password"]  # encrypted again, with the newest key
    assert not traces(whole_database())


@pytest.mark.parametrize("stands", ["as it is shown", "as it is stored"])
def test_an_edited_retry_carries_no_secret(bob_principal, failed, jobs, stands):
    left = MASK if stands == "as it is shown" else failed.parameters["accounts"][0]["token"]
    edited = {"how": "return", "password": "new-one", "accounts": [{"user": "root", "token": left}]}

    with pytest.raises(Invalid) as refusal:
        operations.jobs.retry(bob_principal, failed.number, parameters=edited)

    assert refusal.value.details["errors"] == [
        {
            "pointer": "/accounts/0/token",
            "message": f"is a secret of job {failed.number}, carried only if nothing is edited; give it anew",
        }
    ]
    assert not Job.objects.filter(retry_of=failed.number).exists()
    edited["accounts"][0]["token"] = "tok-new"
    retry = jobs.row(operations.jobs.retry(bob_principal, failed.number, parameters=edited).number)
    assert secrets.opened(retry.parameters)[0] == edited


def test_the_mask_of_a_secret_is_refused_as_a_value(operator, login):
    with pytest.raises(Invalid, match="/password is ••••, which is shown in place of a secret; give the secret itself"):
        submit_as(operator, "login", {"password": MASK})


def test_a_retry_reveals_no_secret_that_the_schema_no_longer_marks(bob_principal, failed, define):
    open_now = {**SCHEMA["properties"], "pin": {"type": "string"}, "password": {"type": "string", "maxLength": 3}}
    define("login", target="tests.sample_actions:betray", parameters={**SCHEMA, "properties": open_now})

    with pytest.raises(Invalid) as refusal:
        operations.jobs.retry(bob_principal, failed.number)

    why = f"is a secret of job {failed.number}, but no longer one by the schema; give all parameters anew"
    assert sorted(refusal.value.details["errors"], key=lambda one: one["pointer"]) == [
        {"pointer": "/password", "message": why},
        {"pointer": "/pin", "message": why},
    ]
    assert not traces(repr(refusal.value))
    assert not traces(whole_database())


def test_a_retry_encrypts_what_the_schema_has_marked_since(bob_principal, operator, define, jobs, run_job):
    define("login", target="tests.sample_actions:betray", parameters={"type": "object"})
    job = run_job(submit_as(operator, "login", {"how": "fail", "pin": 90210}).number)
    define("login", target="tests.sample_actions:betray", parameters=SCHEMA)

    retry = jobs.row(operations.jobs.retry(bob_principal, job.number).number)

    assert retry.parameters["pin"].keys() == {"$secret"}


def test_a_retry_whose_key_is_lost_is_refused(bob_principal, failed, settings):
    settings.JOBSITE_SECRET_KEYS = ("quite another key than before",)

    with pytest.raises(Conflict, match=f"job {failed.number}: parameter /key cannot be decrypted") as refusal:
        operations.jobs.retry(bob_principal, failed.number)

    assert refusal.value.code == "secrets_lost"
    assert not Job.objects.filter(retry_of=failed.number).exists()


# ---- who sees what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
def test_members_see_masked_secrets_and_strangers_see_nothing(tenant, alice, bob, charlie, login, role):
    Membership.objects.filter(user=bob).update(role=role)
    number = submit(tenant=tenant, program="login", parameters={"how": "x", **GIVEN}, user=alice).number

    shown: dict[str, Any] = presentation.job(operations.jobs.find_job(principals.of_user(bob, tenant), number))

    assert shown["parameters"] == {
        "how": "x",
        "password": MASK,
        "pin": MASK,
        "accounts": [{"user": "root", "token": MASK}],
        "key": MASK,
    }
    with pytest.raises(NotFound):
        submit(tenant=tenant, program="login", parameters=GIVEN, user=charlie)
    stranger = principals.of_user(charlie, Membership.objects.get(user=charlie).tenant)
    with pytest.raises(NotFound):
        operations.jobs.find_job(stranger, number)


def test_a_viewer_may_not_submit_and_learns_nothing_about_the_parameters(tenant, bob, login):
    Membership.objects.filter(user=bob).update(role=Role.VIEWER)

    with pytest.raises(Forbidden, match="lacks jobs:write"):
        submit(tenant=tenant, program="login", parameters={"pin": PASSWORD}, user=bob)


def test_the_page_of_a_job_in_the_admin_shows_masked_secrets(client, superuser_client, operator, login, run_job):
    number = run_job(submit_as(operator, "login", {"how": "fail", **GIVEN}).number).number

    page = superuser_client.get(f"/admin/jobsite_programs/job/{number}/change/").content.decode()

    assert MASK in page
    assert "$secret" not in page
    assert not traces(page.replace("&quot;", '"'))


@pytest.fixture
def superuser_client(client, db):
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client
