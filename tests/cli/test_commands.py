"""Every command: its output, its JSON, its refusals in one line, its exit status."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.utils import timezone

from jobsite.programs.models import Job, JobStep
from jobsite.tenants.models import AuditEntry, Tenant
from tests.cli.conftest import Answer

Run = Callable[..., Answer]

JOB_KEYS = {
    "number", "program", "status", "phase", "outcome", "trigger", "priority", "queue", "parameters", "scheduled_at",
    "due_at", "created_at", "queued_at", "started_at", "finished_at", "attempts", "losses", "hold", "cancel",
    "progress", "current_step", "worker", "result", "error", "failure_kind", "parent", "retry_of", "submitted_by",
    "needs_review", "engine", "external_id",
}  # fmt: skip

PROGRAM_FILE = """
[[program]]
code = "hello"
[program.parameters]
type = "object"
required = ["times"]
additionalProperties = false
properties.times = { type = "integer" }
properties.word = { type = "string" }
[[program.action]]
kind = "python"
target = "tests.sample_actions:echo"
"""


def test_an_empty_installation_says_what_to_do_first(run: Run) -> None:
    assert "jobsite tenants create CODE" in run("tenants", "list").out
    refused = run("jobs", "list")

    assert refused.status == 2
    assert refused.err == "jobsite: there is no tenant yet; make one with: jobsite tenants create CODE\n"


def test_a_tenant_is_created_once(run: Run) -> None:
    assert run("tenants", "create", "acme", "--time-zone", "Europe/Berlin").status == 0

    again = run("tenants", "create", "acme")
    listed = run("tenants", "list", "--json").json

    assert (again.status, again.err) == (3, "jobsite: tenant acme exists already\n")
    assert [(one["code"], one["time_zone"]) for one in listed] == [("acme", "Europe/Berlin")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tenants", "create", "Acme Inc"), "code: A code is up to 100 lower-case letters, digits, and _ . - inside."),
        (("tenants", "create", "acme", "--time-zone", "Mars"), "Mars is not an IANA time zone such as Europe/Berlin"),
        (("tenants", "create", "acme\n"), "code: A code is up to 100 lower-case letters, digits, and _ . - inside."),
        (("tenants", "create", "system"), "tenant system exists already"),
    ],
)
def test_an_invalid_tenant_is_refused(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    answer = run(*arguments)

    assert answer.status in (2, 3)
    assert answer.err == f"jobsite: {sentence}\n"
    assert not Tenant.objects.exclude(code="system").exists()


def test_with_several_tenants_one_must_be_chosen(run: Run, tenant: Tenant, other_tenant: Tenant) -> None:
    unclear = run("jobs", "list")
    chosen = run("jobs", "list", "--tenant", "umbrella", "--json")

    assert unclear.status == 2
    assert "which tenant? give --tenant CODE" in unclear.err
    assert chosen.json == {"items": [], "next_cursor": None}


def test_programs_are_loaded_idempotently_and_listed(run: Run, tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "programs.toml"
    file.write_text(PROGRAM_FILE)

    first, second = run("programs", "load", file), run("programs", "load", file)

    assert (first.status, first.out) == (0, "hello is created\n")
    assert (second.status, second.out) == (0, "hello is unchanged\n")
    assert [one["code"] for one in run("programs", "list", "--json").json] == ["hello"]
    assert run("programs", "show", "hello", "--json").json["actions"][0]["kind"] == "python"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[[program]", "is not TOML"),
        (PROGRAM_FILE.replace("code =", "cod ="), "cod"),
        (PROGRAM_FILE.replace("echo", "no_such_function"), "no_such_function"),
        (PROGRAM_FILE + 'overlap = "QUEUE"\n', "overlap"),
    ],
)
def test_a_wrong_program_file_is_refused_whole(run: Run, tenant: Tenant, tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "programs.toml"
    file.write_text(text)

    answer = run("programs", "load", file)

    assert answer.status == 2
    assert answer.err.startswith("jobsite: ") and answer.err.count("\n") == 1 and part in answer.err
    assert run("programs", "list", "--json").json == []


def test_submit_prints_the_number_or_the_job(run: Run, define: Any) -> None:
    define("sample")

    plain = run("submit", "sample", "--priority", "7", "--hold")
    shown = run("jobs", "show", plain.out.strip(), "--json").json
    as_json = run("submit", "sample", "--json").json

    assert shown["number"] == int(plain.out)
    assert (shown["priority"], shown["hold"]["by"].startswith("local:")) == (7, True)
    assert shown.keys() == JOB_KEYS | {"attempts_list", "steps", "children"}
    assert as_json.keys() == JOB_KEYS


def test_parameters_are_typed_by_the_schema(run: Run, tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "programs.toml").write_text(PROGRAM_FILE)
    (tmp_path / "parameters.json").write_text('{"word": "ready"}')
    run("programs", "load", tmp_path / "programs.toml")

    job = run("submit", "hello", "-p", "times=3", "--parameters", f"@{tmp_path / 'parameters.json'}", "--json").json

    assert job["parameters"] == {"times": 3, "word": "ready"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nope",), "no program nope in tenant acme"),
        (("hello",), "/times is required"),
        (("hello", "-p", "times=three"), "/times expected integer"),
        (("hello", "-p", "times"), "expected KEY=VALUE"),
        (("hello", "-p", "times=1", "--at", "tomorrow"), "scheduled_at"),
        (("hello", "-p", "times=1", "--priority", "101"), "-100 to 100"),
        (("hello", "--parameters", "{"), "--parameters is not JSON"),
        (("hello", "--parameters", "[]"), "--parameters must be a JSON object"),
        (("hello", "--parameters", "@/no/such/file"), "cannot read /no/such/file"),
        (("hello", "-p", "times=1", "--as", "nobody"), "no user nobody"),
        (("hello", "--tenant", "nowhere"), "no tenant nowhere"),
        (("hello", "-p", "times=1", "--notify"), "--notify sends a message to the submitter, who must be a user: "),
    ],
)
def test_a_wrong_submission_is_one_sentence_and_no_job(
    run: Run, tenant: Tenant, tmp_path: Path, arguments: tuple[str, ...], part: str
) -> None:
    (tmp_path / "programs.toml").write_text(PROGRAM_FILE)
    run("programs", "load", tmp_path / "programs.toml")

    answer = run("submit", *arguments)

    assert answer.status == 2
    assert answer.err.startswith("jobsite: ") and answer.err.count("\n") == 1 and part in answer.err, answer.err
    assert not Job.objects.exists()


def test_a_user_submits_with_their_own_permissions(run: Run, define: Any, bob: User, charlie: User) -> None:
    define("sample")

    by_bob = run("submit", "sample", "--tenant", "acme", "--as", "bob", "--json").json
    by_charlie = run("submit", "sample", "--tenant", "acme", "--as", "charlie")

    assert by_bob["submitted_by"] == "bob"
    assert by_charlie.status == 3
    assert by_charlie.err == "jobsite: user charlie is no active member of tenant acme\n"


def test_a_duplicate_is_refused_with_the_number_of_the_first(run: Run, define: Any) -> None:
    define("sample", overlap="REJECT")
    first = run("submit", "sample", "--hold").out.strip()

    second = run("submit", "sample")

    assert second.status == 3
    assert f"duplicate of job {first}" in second.err


def test_jobs_are_listed_filtered_and_paged(run: Run, define: Any) -> None:
    define("sample")
    define("other")
    numbers = [int(run("submit", code, "--hold").out) for code in ("sample", "other", "sample")]
    run("jobs", "cancel", numbers[0])

    canceled = run("jobs", "list", "--status", "cancelled", "--json").json
    page = run("jobs", "list", "--limit", "2", "--json").json
    rest = run("jobs", "list", "--limit", "2", "--cursor", page["next_cursor"], "--json").json

    assert [job["number"] for job in canceled["items"]] == numbers[:1]
    assert [job["number"] for job in page["items"]] == [numbers[2], numbers[1]]
    assert ([job["number"] for job in rest["items"]], rest["next_cursor"]) == ([numbers[0]], None)
    assert [job["number"] for job in run("jobs", "list", "--program", "other", "--json").json["items"]] == [numbers[1]]
    assert run("jobs", "list", "--until", "1h", "--json").json["items"] == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--status", "done"), "unknown status DONE; allowed are PENDING"),
        (("--trigger", "me"), "unknown trigger ME"),
        (("--limit", "0"), "limit must be from 1 to 200"),
        (("--cursor", "%%%"), "the cursor is malformed"),
        (("--since", "yesterday"), "--since"),
        (("--limit", "many"), "invalid int value"),
    ],
)
def test_a_wrong_filter_is_refused(run: Run, tenant: Tenant, arguments: tuple[str, ...], part: str) -> None:
    answer = run("jobs", "list", *arguments)

    assert answer.status == 2
    assert answer.err.count("\n") == 1 and part in answer.err


def test_hold_release_and_cancel_are_audited(run: Run, define: Any) -> None:
    define("sample")
    number = run("submit", "sample").out.strip()

    assert run("jobs", "hold", number, "--reason", "month end").status == 0
    assert run("jobs", "hold", number).err == f"jobsite: job {number} is held already\n"
    assert run("jobs", "release", number).status == 0
    assert run("jobs", "cancel", number, "--reason", "wrong year").status == 0
    again = run("jobs", "cancel", number)

    assert (again.status, again.err) == (3, 'jobsite: Cannot cancel a job with status "CANCELED"\n')
    actions = AuditEntry.objects.filter(target=number).order_by("id").values_list("action", "door", "reason")
    assert list(actions) == [("hold", "cli", "month end"), ("release", "cli", ""), ("cancel", "cli", "wrong year")]


@pytest.mark.parametrize("command", [("show",), ("logs",), ("why",), ("cancel",), ("hold",), ("release",)])
def test_a_job_of_another_tenant_is_not_found(
    run: Run, define: Any, other_tenant: Tenant, command: tuple[str, ...]
) -> None:
    define("sample")
    number = run("submit", "sample", "--tenant", "acme").out.strip()

    answer = run("jobs", *command, number, "--tenant", "umbrella")

    assert (answer.status, answer.err) == (2, f"jobsite: no job {number}\n")


def test_the_log_of_a_job_is_shown(run: Run, define: Any) -> None:
    define("sample")
    job = Job.objects.get(number=run("submit", "sample").out.strip())
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobsite_joblogentry (at, tenant_id, job_number, sequence, attempt, stream, severity, message)"
            " VALUES (now(), %s, %s, 1, 1, 'log', 'WARNING', '[red]3 students without marks')",
            [job.tenant_id, job.number],
        )

    plain, as_json = run("jobs", "logs", job.number), run("jobs", "logs", job.number, "--json").json

    assert plain.out.endswith("WARNING [red]3 students without marks\n")
    assert as_json[0].keys() == {"sequence", "at", "severity", "message", "attempt", "step", "stream"}


def test_the_steps_of_a_job_are_shown(run: Run, define: Any) -> None:
    define("sample")
    job = Job.objects.get(number=run("submit", "sample").out.strip())
    at = {"tenant_id": job.tenant_id, "digest": uuid4(), "started_at": timezone.now(), "fence": 1}
    JobStep.objects.create(job=job, action="fetch", status="COMPLETED", tries=1, ended_at=timezone.now(), **at)
    error = {"type": "ValueError", "message": "[red]no", "step": "python 2: page 3"}
    JobStep.objects.create(
        job=job, action="python 2", name="page 3", status="FAILED", tries=2, ended_at=timezone.now(), error=error, **at
    )
    JobStep.objects.create(job=job, action="python 2", name="page 4", status="RUNNING", tries=1, **at)

    plain, steps = run("jobs", "show", job.number).out, run("jobs", "show", job.number, "--json").json["steps"]

    assert [line.split()[:3] for line in plain.splitlines() if "python 2" in line] == [
        ["python", "2:", "page"],
        ["python", "2:", "page"],
    ]
    assert "[red]no" in plain
    assert [(one["action"], one["name"], one["status"], one["tries"]) for one in steps] == [
        ("fetch", None, "COMPLETED", 1),
        ("python 2", "page 3", "FAILED", 2),
        ("python 2", "page 4", "INTERRUPTED", 1),
    ]
    assert steps[1].keys() == {"action", "name", "status", "tries", "started_at", "ended_at", "result", "error"}


def test_the_children_of_a_job_are_drawn_as_a_tree(run: Run, define: Any) -> None:
    define("sample")
    numbers = [int(run("submit", "sample").out.strip()) for _ in range(4)]
    families = [(numbers[0], "a"), (numbers[0], "b"), (numbers[1], "auto:7")]
    for number, (parent, key) in zip(numbers[1:], families, strict=True):
        Job.objects.filter(pk=number).update(parent=parent, child_key=key, parent_fence=0, trigger="CHILD")

    plain, children = run("jobs", "show", numbers[0]).out, run("jobs", "show", numbers[0], "--json").json["children"]

    assert plain.splitlines()[-4:] == [
        "2 children:  2 PENDING",
        f"├── #{numbers[1]} sample a  PENDING",
        f"│   └── #{numbers[3]} sample  PENDING",
        f"└── #{numbers[2]} sample b  PENDING",
    ]
    first, second = children
    shape = {"number", "program", "key", "status", "outcome", "started_at", "finished_at", "error", "children"}
    assert first.keys() == shape
    assert [one["number"] for one in (first, second, *first["children"])] == numbers[1:]
    assert (first["key"], first["children"][0]["key"], second["children"]) == ("a", None, [])


def test_the_children_of_a_job_are_listed_and_canceled_by_their_parent(run: Run, define: Any) -> None:
    define("sample")
    numbers = [int(run("submit", "sample").out.strip()) for _ in range(3)]
    of_parent = {"parent": numbers[0], "child_key": F("number"), "parent_fence": 0, "trigger": "CHILD"}
    Job.objects.filter(pk=numbers[1]).update(**of_parent)

    listed = run("jobs", "list", "--parent", str(numbers[0]), "--json").json["items"]
    assert [one["number"] for one in listed] == [numbers[1]]
    run("jobs", "cancel", "--all", "--parent", str(numbers[0]), "--yes")

    assert [Job.objects.get(pk=one).status == "CANCELED" for one in numbers] == [False, True, False]


def test_open_children_are_drawn_before_completed_ones(run: Run, define: Any) -> None:
    define("sample")
    numbers = [int(run("submit", "sample").out.strip()) for _ in range(34)]
    of_parent = {"parent": numbers[0], "child_key": F("number"), "parent_fence": 0, "trigger": "CHILD"}
    Job.objects.filter(pk__in=numbers[1:]).update(**of_parent)
    done, now = Job.objects.filter(pk__in=numbers[1:33]), timezone.now()
    lock = {"lock_token": uuid4(), "lock_owner": uuid4(), "lock_expires_at": now, "claimed_at": now, "fence": 1}
    done.filter(status="PENDING").update(status="QUEUED", queued_at=now)
    done.update(status="RUNNING", **lock)
    done.update(status="COMPLETED", finished_at=now, lock_token=None, lock_owner=None, lock_expires_at=None)

    lines = run("jobs", "show", numbers[0]).out.splitlines()

    assert "33 children:  32 COMPLETED  1 PENDING" in lines
    place = lines.index("33 children:  32 COMPLETED  1 PENDING")
    assert lines[place + 1].startswith(f"├── #{numbers[33]} sample")
    assert lines[-1] == "└── and 3 more: --json"


def test_waiting_ends_with_the_state_of_the_job(run: Run, define: Any) -> None:
    define("sample")

    still_going = run("submit", "sample", "--hold", "--wait", "--wait-timeout", "0.2", "--json")

    assert still_going.status == 5
    assert still_going.json["status"] == "PENDING"


def test_queues_locks_and_workers_have_their_shapes(run: Run, define: Any) -> None:
    define("sample", queue="content")
    run("submit", "sample")

    queues = {one["queue"]: one for one in run("queues", "list", "--json").json}

    assert queues["content"].keys() == {"queue", "depth", "oldest_seconds", "running", "workers", "broker", "paused"}
    assert (queues["content"]["depth"], queues["default"]["depth"]) == (1, 0)
    assert run("locks", "list", "--json").json == []
    assert run("workers", "list", "--json").json == []
    assert run("locks", "clear").out == "No lock is stale.\n"
    assert run("jobs", "expire").out == "No job is stuck.\n"


def test_members_get_roles(run: Run, tenant: Tenant, charlie: User) -> None:
    assert run("members", "add", "charlie", "--role", "operator", "--tenant", "acme").status == 0

    assert run("members", "list", "--tenant", "acme", "--json").json == [
        {"user": "charlie", "role": "OPERATOR", "language": ""}
    ]
    assert run("members", "add", "nobody", "--tenant", "acme").err.startswith("jobsite: no user nobody")


def test_a_suspended_tenants_jobs_wait_until_it_is_resumed(run: Run, define: Any) -> None:
    define("sample")

    assert run("tenants", "suspend", "acme", "--reason", "unpaid").out == "tenant acme is suspended; its jobs wait\n"
    waiting = run("submit", "sample", "--json").json
    again = run("tenants", "suspend", "acme")

    assert waiting["status"] == "PENDING"
    assert (again.status, again.err) == (3, "jobsite: tenant acme is suspended already\n")
    assert run("tenants", "resume", "acme").status == 0
    assert run("tenants", "resume", "acme").err == "jobsite: tenant acme is not suspended\n"
    actions = AuditEntry.objects.filter(target_type="tenant").order_by("id").values_list("action", "reason")
    assert list(actions) == [("suspend tenant", "unpaid"), ("resume tenant", "")]


def test_a_paused_queue_says_so_and_why_its_jobs_wait(run: Run, define: Any) -> None:
    define()
    number = run("submit", "sample").out.strip().lstrip("#")

    paused = run("queues", "pause", "default", "--reason", "the broker moves")
    own = run("queues", "pause", "default", "--only-tenant", "--until", "2030-05-17T08:30:00Z")
    listed = {one["queue"]: one["paused"] for one in run("queues", "list", "--json").json}
    reasons = run("jobs", "why", number, "--json").json

    assert paused.out == "queue default is paused for every tenant; its jobs wait\n"
    assert own.out == "queue default is paused for tenant acme; its jobs wait\n"
    assert (listed["default"], listed["content"]) == (True, False)
    assert [one["code"] for one in reasons[:2]] == ["queue_paused", "queue_paused"]
    assert reasons[0]["message"].endswith(": the broker moves")
    assert f"#{number}: {reasons[0]['message']}\n" in run("jobs", "why", number).out
    again = run("queues", "pause", "default")
    assert (again.status, again.err) == (3, "jobsite: queue default is paused already\n")
    assert run("queues", "resume", "default").out == "queue default goes on for every tenant\n"
    assert run("queues", "resume", "default", "--only-tenant").status == 0
    assert run("queues", "pause", "nowhere").status == 2


def test_a_program_is_paused_resumed_terminated_and_reactivated(run: Run, define: Any) -> None:
    define()

    assert run("programs", "pause", "sample", "--reason", "audit").out == "sample is paused; its jobs wait\n"
    assert run("submit", "sample", "--json").json["status"] == "PENDING"
    again = run("programs", "pause", "sample")
    assert (again.status, again.err) == (3, 'jobsite: Cannot pause a program with status "PAUSED"\n')
    assert run("programs", "resume", "sample").out == "sample goes on\n"
    assert "is terminated" in run("programs", "terminate", "sample").out
    assert run("submit", "sample").status == 0
    assert run("programs", "reactivate", "sample").out == "sample is active again\n"
    assert run("programs", "pause", "sample", "--until", "tomorrow").status == 2
    assert run("programs", "pause", "nothing").status == 2


@pytest.mark.parametrize("arguments", [("jobs", "foo"), ("jobs",), ("submit",), ("worker", "nowhere"), ("nonsense",)])
def test_bad_usage_is_exit_status_2(run: Run, tenant: Tenant, arguments: tuple[str, ...]) -> None:
    answer = run(*arguments)

    assert answer.status == 2
    assert "Traceback" not in answer.err and answer.err.strip()


def test_the_doctor_names_what_is_missing(run: Run, tenant: Tenant) -> None:
    answer = run("doctor", "--json")

    found = {one["what"]: one for one in answer.json}
    assert answer.status == 1
    assert found["database"]["is_good"] and found["broker"]["is_good"] and found["migrations"]["is_good"]
    assert not found["workers"]["is_good"] and "jobsite worker" in found["workers"]["mend"]


def test_jobsite_alone_lists_the_commands(run: Run) -> None:
    answer = run()

    assert answer.status == 0
    assert all(name in answer.out for name in ("up", "demo", "submit", "jobs", "doctor"))
