"""Every stored secret gets the newest key: in batches, repeatedly, while the installation is in use."""

import json
import threading

import pytest
from django.db import connection

from jobsite.programs.definitions import from_mapping
from jobsite.programs.definitions.registration import load
from jobsite.programs.models import Job
from jobsite.programs.operations import rotation
from jobsite.programs.parameters import secrets
from jobsite.programs.rules.lifecycle import TERMINAL
from jobsite.programs.submission import submit, submit_as
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry
from tests.programs.conftest import Jobs

OLD, NEW = "the old key of this test, long enough", "the new key of this test, long enough"
SCHEMA = {
    "type": "object",
    "properties": {"open": {"type": "integer"}, "a": {"type": "string", "writeOnly": True}, "b": {"writeOnly": True}},
}


@pytest.fixture
def login(define, settings):
    settings.JOBSITE_SECRET_KEYS = (OLD,)
    return define("login", parameters=SCHEMA)


def is_under_the_newest_key(job: Job, settings) -> bool:
    before, settings.JOBSITE_SECRET_KEYS = settings.JOBSITE_SECRET_KEYS, (NEW,)
    try:
        return bool(secrets.opened(job.parameters))
    except secrets.SecretLost:
        return False
    finally:
        settings.JOBSITE_SECRET_KEYS = before


def rotate() -> tuple[int, int, list[int]]:
    """How many jobs were seen, how many were changed, and which are lost."""
    batches = list(rotation.rotate(login="root"))
    return (
        sum(batch.seen for batch in batches),
        sum(batch.changed for batch in batches),
        [number for batch in batches for number in batch.lost],
    )


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_the_secrets_of_a_job_in_any_status_get_the_newest_key(jobs: Jobs, login, settings, status):
    stored = secrets.encrypted({"a": "hunter2", "b": [1, {"c": 2.50}], "open": 7}, [("a",), ("b",)])
    number = jobs.in_status(status, program=login, parameters=json.dumps(stored), has_secrets=True)
    before = jobs.row(number)
    settings.JOBSITE_SECRET_KEYS = (NEW, OLD)

    assert rotate() == (1, 1, [])

    after = jobs.row(number)
    assert is_under_the_newest_key(after, settings)
    assert secrets.opened(after.parameters)[0] == {"a": "hunter2", "b": [1, {"c": 2.5}], "open": 7}
    changed = {field.name for field in Job._meta.fields if getattr(before, field.name) != getattr(after, field.name)}
    assert changed == {"parameters"}
    assert status not in TERMINAL or before.finished_at == after.finished_at


@pytest.mark.django_db
def test_it_goes_batch_by_batch_and_a_second_rotation_changes_nothing(operator, login, settings, monkeypatch):
    monkeypatch.setattr(rotation, "BATCH", 2)
    numbers = [submit_as(operator, "login", {"a": "x" * 10, "open": n}).number for n in range(5)]
    submit_as(operator, "login", {"open": 1})
    settings.JOBSITE_SECRET_KEYS = (NEW, OLD)

    steps = rotation.rotate(login="root")
    first = next(steps)
    assert (first.done_to, first.last, first.seen, first.changed) == (numbers[1], numbers[4], 2, 2)
    steps.close()  # stopped here; the first batch stays done
    done = [is_under_the_newest_key(job, settings) for job in Job.objects.filter(has_secrets=True).order_by("number")]
    assert done == [True, True, False, False, False]

    assert rotate() == (5, 3, [])
    assert rotate() == (5, 0, [])


@pytest.mark.django_db
def test_a_job_that_no_key_decrypts_is_named_and_left_alone(operator, login, settings):
    lost = submit_as(operator, "login", {"a": "hunter2", "b": "also"}).number
    settings.JOBSITE_SECRET_KEYS = (NEW,)
    fine = submit_as(operator, "login", {"a": "hunter2"}).number
    before = dict(Job.objects.values_list("number", "parameters"))

    assert rotate() == (2, 0, [lost])

    assert dict(Job.objects.values_list("number", "parameters")) == before
    assert is_under_the_newest_key(Job.objects.get(number=fine), settings)


@pytest.mark.django_db
def test_each_tenant_whose_jobs_were_changed_gets_an_audit_entry(
    tenant, other_tenant, alice, charlie, operator, define, login, settings
):
    program = {"code": "login", "parameters": SCHEMA, "action": [{"kind": "command", "argv": ["true"]}]}
    load(principals.local(other_tenant, login="x"), [from_mapping(program, where="t", queues=["default"])])
    mine = [submit(tenant=tenant, program="login", parameters={"a": "aaaa"}, user=alice).number for _ in range(2)]
    theirs = submit(tenant=other_tenant, program="login", parameters={"a": "bbbb"}, user=charlie).number
    settings.JOBSITE_SECRET_KEYS = (NEW, OLD)

    rotate()

    entries = AuditEntry.objects.filter(action="rotate secrets").order_by("tenant_id")
    recorded = list(entries.values_list("tenant__code", "actor", "door", "target_type", "target", "after"))
    assert recorded == [
        ("acme", "local:root", "cli", "jobs", f"{mine[0]}-{mine[1]}", {"jobs": 2}),
        ("umbrella", "local:root", "cli", "jobs", f"{theirs}-{theirs}", {"jobs": 1}),
    ]
    rotate()
    assert entries.count() == 2


@pytest.mark.django_db
def test_only_jobs_with_secrets_are_read(operator, login, cursor, jobs, settings):
    jobs.many(200)
    submit_as(operator, "login", {"a": "hunter2"})
    cursor.execute("ANALYZE jobsite_job")
    cursor.execute("SET LOCAL enable_seqscan = off")

    for statement, values in ((rotation.LAST, []), (rotation.BATCH_OF, [0, 10**9, 500])):
        cursor.execute(f"EXPLAIN {statement}", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "job_with_secrets" in plan, plan
    settings.JOBSITE_SECRET_KEYS = (NEW, OLD)
    assert rotate() == (1, 1, [])


@pytest.mark.django_db(transaction=True)
def test_a_rotation_while_others_submit_and_rotate_leaves_every_secret_under_the_newest_key(
    race, operator, login, settings, monkeypatch
):
    monkeypatch.setattr(rotation, "BATCH", 7)
    for n in range(60):
        submit_as(operator, "login", {"a": f"secret {n}", "open": n})
    settings.JOBSITE_SECRET_KEYS = (NEW, OLD)
    is_over = threading.Event()
    submitted: list[int] = []

    def submit_more(_cursor):
        try:
            while not is_over.is_set() or len(submitted) < 20:
                n = 1000 + len(submitted)
                submitted.append(submit_as(operator, "login", {"a": f"secret {n}", "open": n}).number)
        finally:
            connection.close()

    def turn(_cursor):
        try:
            return rotate()
        finally:
            is_over.set()
            connection.close()

    answers = race(submit_more, turn, turn)

    assert answers[0] is None
    assert sum(changed for _, changed, _ in answers[1:]) == 60
    assert [lost for _, _, lost in answers[1:]] == [[], []]
    rows = list(Job.objects.all())
    assert len(rows) == 60 + len(submitted)
    settings.JOBSITE_SECRET_KEYS = (NEW,)
    for row in rows:
        assert secrets.opened(row.parameters)[0]["a"] == f"secret {row.parameters['open']}"
