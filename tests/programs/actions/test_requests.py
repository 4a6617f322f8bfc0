"""The kinds http, heartbeat and webhook, against a real server: what is sent, and what an answer means."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from standardwebhooks import Webhook

from jobsite.errors import Forbidden, Invalid
from jobsite.programs.definitions import DefinitionError, from_mapping, registration
from jobsite.programs.execution import program_cache
from jobsite.programs.models import Action, Job, JobAttempt, JobLogEntry, Program
from jobsite.programs.operations import rotation
from jobsite.programs.parameters import secrets
from jobsite.programs.submission import submit_as
from jobsite.tenants.models import AuditEntry
from tests.receiver import receiving

pytestmark = pytest.mark.django_db(transaction=True)
KEYS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "b2xkIGtleSBvZiB0aGlzIHRlc3QgMDEyMw=="]
OPEN = {"type": "object"}


@pytest.fixture
def receiver(settings):
    """Answers with the items of `answers`, then with 200. It listens on loopback, which is allowed here."""
    settings.JOBSITE_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
    answers = []

    def answer(request):
        status, body, headers = answers.pop(0) if answers else (200, b"{}", {})
        request.reply(status, body, **{"Content_Type": "application/json", **headers})

    with receiving(answer) as started:
        started.answers = answers
        yield started


@pytest.fixture
def run(operator, define, run_job, jobs):
    """Define a program of these actions, submit a job, run it `times` times."""

    def run(*actions, parameters=None, times=1, **keys):
        define(action=list(actions), parameters=keys.pop("schema", OPEN), **keys)
        number = submit_as(operator, "sample", parameters or {}).number
        for _ in range(times):
            run_job(number)
        return jobs.row(number)

    return run


def lines_of(job):
    return list(JobLogEntry.objects.filter(job_number=job.number).values_list("message", flat=True))


# ---- http --------------------------------------------------------------------------------------------------


def test_a_request_is_sent_as_it_is_written_and_its_answer_is_the_result(run, receiver):
    receiver.answers.append((201, b'{"id": 7, "tags": ["a"]}', {"X_One": "1"}))

    job = run(
        {
            "kind": "http",
            "method": "POST",
            "url": receiver.url("/orders/{{ parameters.order | url_encode }}"),
            "headers": {"X-Token": "{{ parameters.token }}"},
            "body": {"order": "{{ parameters.order }}", "nested": [1, {"deep": "{{ parameters.token }}!"}], "ok": True},
        },
        parameters={"order": "a b/c", "token": "t-1"},
    )

    assert job.status == "COMPLETED", job.error
    assert job.result.pop("seconds") >= 0
    headers = job.result.pop("headers")
    assert (headers["x-one"], headers["content-type"]) == ("1", "application/json")
    assert job.result == {
        "status": 201, "url": receiver.url("/orders/a+b%2Fc"), "body": {"id": 7, "tags": ["a"]}, "is_cut": False,
    }  # fmt: skip
    [seen] = receiver.seen
    assert (seen.command, seen.path, seen.headers["content-type"]) == ("POST", "/orders/a+b%2Fc", "application/json")
    assert (seen.headers["x-token"], seen.headers["jobsite-job"]) == ("t-1", str(job.number))
    assert json.loads(seen.body) == {"order": "a b/c", "nested": [1, {"deep": "t-1!"}], "ok": True}
    [line] = lines_of(job)
    assert line.startswith(f"POST {receiver.url('/orders/a+b%2Fc')}: 201 in 0.")


def test_a_receiver_can_tell_a_second_run_from_a_second_job(run, receiver):
    receiver.answers += [(503, b"", {}), (200, b"", {})]
    action = {"kind": "http", "url": receiver.url()}

    first, second = run(action, times=2), run(action)

    assert (first.status, second.status) == ("COMPLETED", "COMPLETED")
    keys = [one.headers["idempotency-key"] for one in receiver.seen]
    assert keys[0] == keys[1] != keys[2]
    assert [one.headers["jobsite-fence"] for one in receiver.seen] == ["1", "2", "1"]
    assert [one.headers["jobsite-attempt"] for one in receiver.seen] == ["1", "2", "1"]


def test_the_headers_of_the_action_come_before_our_own_but_cannot_lie_about_the_fence(run, receiver):
    mine = {"Idempotency-Key": "mine", "Jobsite-Fence": "99", "User-Agent": "me"}

    assert run({"kind": "http", "url": receiver.url(), "headers": mine}).status == "COMPLETED"

    headers = receiver.seen[0].headers
    assert [headers.get_all(name) for name in mine] == [["mine"], ["1"], ["me"]]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 599])
def test_a_temporary_status_is_retried(run, run_job, receiver, status):
    receiver.answers.append((status, b"busy  now\n", {}))

    job = run({"kind": "http", "url": receiver.url("/x")})

    assert (job.status, job.blocked) == ("PENDING", "SCHEDULED")
    assert job.error["message"] == f"{receiver.url('/x')} answered {status}, expected 200-299: busy now"
    assert run_job(job.number).status == "COMPLETED"


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 422])
def test_any_other_status_is_final(run, receiver, status):
    receiver.answers.append((status, b"no", {}))

    job = run({"kind": "http", "url": receiver.url()})

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honored(run, receiver, form):
    at = datetime.now(UTC) + timedelta(seconds=90)
    receiver.answers.append(
        (429, b"", {"Retry_After": "90" if form == "seconds" else format_datetime(at, usegmt=True)})
    )

    job = run({"kind": "http", "url": receiver.url()})

    assert 85 <= (job.due_at - datetime.now(UTC)).total_seconds() <= 91


@pytest.mark.parametrize("value", ["soon", "-5", "Mon, 01 Jan 2024 00:00:00 +9999999999999", "9" * 300])
def test_a_malformed_retry_after_is_ignored(run, receiver, value):
    receiver.answers.append((503, b"", {"Retry_After": value}))

    assert run({"kind": "http", "url": receiver.url()}).status == "PENDING"


@pytest.mark.parametrize(
    ("expected", "status", "is_fine"),
    [
        (404, 404, True), (404, 200, False), ("200-204", 204, True), ("200-204", 205, False),
        ([200, "404-410"], 410, True), ([200, "404-410"], 411, False),
    ],
)  # fmt: skip
def test_the_expected_status_is_a_number_a_range_or_a_list(run, receiver, expected, status, is_fine):
    receiver.answers.append((status, b"", {}))

    job = run({"kind": "http", "url": receiver.url(), "expected_status": expected})

    assert job.status == ("COMPLETED" if is_fine else "FAILED")


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        (b"plain \xff text", "text/plain", "plain \ufffd text"),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b'{"a": 1', "application/json", '{"a": 1'),
        (b"[NaN]", "application/json", "[NaN]"),
        (b"nul \x00", "text/plain", "nul \ufffd"),
        (b"[" * 100 + b"]" * 100, "application/json", "[" * 100 + "]" * 100),
    ],
)
def test_a_body_is_json_if_it_can_be_else_text(run, receiver, body, kind, shown):
    receiver.answers.append((200, body, {"Content_Type": kind}))

    job = run({"kind": "http", "url": receiver.url()})

    assert (job.status, job.result["body"]) == ("COMPLETED", shown)


@pytest.mark.parametrize("body", [b"x" * 200_000, b"\x01" * 30_000], ids=["long", "long once it is JSON"])
def test_a_body_that_is_too_long_is_cut_and_the_job_completes(run, receiver, body):
    receiver.answers.append((200, body, {"Content_Type": "text/plain"}))

    job = run({"kind": "http", "url": receiver.url()})

    assert (job.status, job.result["is_cut"]) == ("COMPLETED", True)
    assert 4_000 < len(job.result["body"]) <= 32 * 1024


def test_a_post_does_not_follow_a_redirect(run, receiver):
    receiver.answers.append((302, b"", {"Location": "/elsewhere"}))

    job = run({"kind": "http", "method": "POST", "url": receiver.url("/"), "body": "event"})

    assert (job.status, len(receiver.seen)) == ("FAILED", 1)
    assert "answered 302, expected 200-299" in job.error["message"]


def test_an_expected_redirect_is_the_answer(run, receiver):
    receiver.answers.append((302, b"", {"Location": "/elsewhere"}))

    job = run({"kind": "http", "url": receiver.url("/"), "expected_status": 302})

    assert (job.status, job.result["headers"]["location"]) == ("COMPLETED", "/elsewhere")


def test_names_of_headers_are_equal_in_any_case(run, receiver):
    mine = {"content-type": "application/xml", "IDEMPOTENCY-KEY": "mine", "jobsite-fence": "99"}

    assert run({"kind": "http", "method": "POST", "url": receiver.url(), "headers": mine, "body": "<a/>"}).status

    headers = receiver.seen[0].headers
    assert [headers.get_all(name) for name in mine] == [["application/xml"], ["mine"], ["1"]]


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in parameters.list %}{{ x }}{% endfor %}", "{% assign a = 1 %}", "{% include 'a' %}",
        "{{ parameters.a | replace: 'a', 'aaaaaaaaaa' }}", "{{ parameters.a | split: '' }}", "{{ 3 | times: 9 }}",
        "{{ parameters.a | nothing }}", "{{ parameters.a }}" + "x" * 8_193, "{" * 8_000,
        "{{ '}}' }} (see {{ 1 }}{% if (1..9) contains 1.5 %}{% endif %}", "{{ (1..9) }}",
        "{% if (1..1000000000000000000) contains 1.5 %}{% endif %}",
    ],
)  # fmt: skip
def test_a_template_that_could_expand_or_loop_is_refused_on_load(define, template):
    with pytest.raises(Invalid, match="action 1: "):
        define(action=[{"kind": "http", "url": "http://x.org/", "body": template}])
    assert not Program.objects.exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ parameters.x" + " | escape" * 40 + " }}", "more than 262,144 characters"),
        (["{{ parameters.x }}"] * 50, "what the action renders has more than 1,048,576 characters"),
    ],
)
def test_rendered_text_is_limited(run, receiver, body, said):
    job = run({"kind": "http", "method": "POST", "url": receiver.url(), "body": body}, parameters={"x": "&" * 30_000})

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert said in job.error["message"]
    assert not receiver.seen


def test_a_request_can_use_the_answer_of_an_earlier_one(run, receiver):
    receiver.answers += [(200, b'{"token": "abc"}', {}), (200, b"", {})]

    job = run(
        {"kind": "http", "name": "login", "url": receiver.url("/login")},
        {
            "kind": "http",
            "url": receiver.url("/next"),
            "headers": {"Authorization": "Bearer {{ steps.login.body.token }}"},
        },
    )

    assert job.status == "COMPLETED"
    assert receiver.seen[1].headers["authorization"] == "Bearer abc"


def test_a_server_that_does_not_answer_in_time_times_the_job_out(run, settings):
    settings.JOBSITE_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
    with receiving(lambda request: request.drip()) as slow:
        job = run({"kind": "http", "url": slow.url(), "timeout": "300ms"})

    assert (job.status, job.failure_kind, job.error["type"]) == ("FAILED", "TIMEOUT", "Timeout")


def test_a_forbidden_address_fails_for_good_and_says_why(run, receiver, settings):
    settings.JOBSITE_ALLOWED_NETWORKS = ()

    job = run({"kind": "http", "url": "http://{{ parameters.host }}/"}, parameters={"host": "169.254.169.254"})

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert job.error == {
        "type": "OutgoingRefused",
        "message": "169.254.169.254 is a cloud's metadata address, where nothing is sent unless "
        "JOBSITE_ALLOWED_NETWORKS names it",
        "step": "http 1",
    }
    assert JobAttempt.objects.get(job=job).traceback == ""


def test_a_request_is_retried_if_the_server_is_unreachable(run, receiver):
    receiver.shutdown()
    receiver.server_close()

    assert run({"kind": "http", "url": receiver.url()}).status == "PENDING"


def test_a_secret_is_sent_and_appears_nowhere_else(run, receiver):
    schema = {"type": "object", "properties": {"key": {"type": "string", "writeOnly": True}}}
    receiver.answers.append((200, b'{"echo": "hunter2-and-more"}', {}))

    job = run(
        {
            "kind": "http",
            "url": receiver.url("/?key={{ parameters.key }}"),
            "headers": {"X-Key": "{{ parameters.key }}"},
        },
        schema=schema,
        parameters={"key": "hunter2-and-more"},
    )

    assert (job.status, receiver.seen[0].headers["x-key"]) == ("COMPLETED", "hunter2-and-more")
    kept = [job.result, job.parameters, job.error, lines_of(job)]
    assert "hunter2" not in json.dumps(kept)
    assert job.result["body"] == {"echo": "••••"}


@pytest.mark.parametrize("where", ["url", "header", "echo", "error"])
def test_half_a_secret_appears_nowhere_either(run, receiver, where):
    secret = "Xq7-" * 250
    schema = {"type": "object", "properties": {"key": {"type": "string", "writeOnly": True}}}
    # Each text would be cut in the middle of the secret.
    answer = {
        "url": (200, b"", {}),
        "header": (200, b"", {"X_Echo": "." * 600 + secret}),
        "echo": (200, b"." * (64 * 1024 - 500) + secret.encode(), {"Content_Type": "text/plain"}),
        "error": (400, b"." * 100 + secret.encode(), {}),
    }[where]
    receiver.answers.append(answer)

    job = run(
        {"kind": "http", "url": receiver.url("/?key={{ parameters.key }}")}, schema=schema, parameters={"key": secret}
    )

    assert job.status == ("FAILED" if where == "error" else "COMPLETED")
    assert secret in receiver.seen[0].path
    assert "Xq7-Xq7-" not in json.dumps([job.result, job.error, lines_of(job)])


@pytest.mark.parametrize("filter_", ["", " | url_encode"])
def test_a_secret_is_hidden_in_its_url_encoded_form_too(run, receiver, filter_):
    schema = {"type": "object", "properties": {"key": {"type": "string", "writeOnly": True}}}

    job = run(
        {"kind": "http", "url": receiver.url("/a?key={{ parameters.key" + filter_ + " }}")},
        schema=schema,
        parameters={"key": "pa ss/wor d!"},
    )

    assert job.status == "COMPLETED"
    assert job.result["url"] == receiver.url("/a?key=••••")
    assert "wor" not in json.dumps(lines_of(job))


# ---- heartbeat ---------------------------------------------------------------------------------------------


def test_a_heartbeat_asks_for_a_status(run, receiver):
    job = run({"kind": "heartbeat", "url": receiver.url("/health")})

    assert (job.status, set(job.result), job.result["status"]) == ("COMPLETED", {"status", "seconds"}, 200)
    assert receiver.seen[0].command == "GET"


def test_any_unexpected_status_fails_a_heartbeat_for_good(run, receiver):
    receiver.answers.append((503, b"down", {}))

    job = run({"kind": "heartbeat", "url": receiver.url("/health")})

    assert (job.status, job.failure_kind, job.error["type"]) == ("FAILED", "PERMANENT", "HeartbeatFailed")
    assert job.error["message"] == f"{receiver.url('/health')} answered 503, expected 200-299: down"


def test_a_heartbeat_among_other_actions_keeps_its_own_maximum_time(define, cursor):
    heartbeat = {"kind": "heartbeat", "url": "http://example.org/"}
    program = define(action=[heartbeat, {"kind": "http", "url": "http://example.org/"}], timeout="1h")

    read = program_cache.read_program(cursor, program_id=program.pk, version=program.version)

    assert [step.timeout for step in read.steps] == [300, 3600]


def test_a_heartbeat_has_ten_seconds_by_default_and_five_minutes_at_most(define):
    heartbeat = {"kind": "heartbeat", "url": "http://example.org/"}

    assert define(action=[heartbeat]).timeout_seconds == 10
    with pytest.raises(DefinitionError, match="timeout: expected at most 5m for this kind of action, got 6m"):
        define(action=[heartbeat], timeout="6m")


# ---- webhook -----------------------------------------------------------------------------------------------


def webhook(receiver, secret=KEYS[0]):
    return {"kind": "webhook", "url": receiver.url("/hook"), "secret": secret}


def test_a_webhook_is_signed_as_the_standard_says(run, receiver):
    job = run(webhook(receiver), parameters={"order": "ä-7"})

    assert job.status == "COMPLETED", job.error
    [seen] = receiver.seen
    event = Webhook(KEYS[0]).verify(seen.body, dict(seen.headers))
    assert (event["type"], event["data"]) == (
        "sample", {"job": job.number, "parameters": {"order": "ä-7"}, "steps": {}},
    )  # fmt: skip
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(KEYS[1]).verify(seen.body, dict(seen.headers))


def test_with_two_secrets_both_sign(run, receiver):
    assert run(webhook(receiver, KEYS)).status == "COMPLETED"

    for key in KEYS:
        assert Webhook(key).verify(receiver.seen[0].body, dict(receiver.seen[0].headers))


def test_a_webhook_that_is_sent_again_keeps_its_id_even_with_a_new_secret(run, run_job, receiver, define, settings):
    receiver.answers.append((500, b"", {}))
    job = run(webhook(receiver))
    define(action=[webhook(receiver, KEYS)])

    assert run_job(job.number).status == "COMPLETED"

    first, second = (one.headers for one in receiver.seen)
    assert first["webhook-id"] == second["webhook-id"] == first["idempotency-key"].replace("job-", "msg_job-")


def test_two_similar_webhooks_have_different_ids(run, receiver):
    assert run(webhook(receiver) | {"name": "started"}, webhook(receiver) | {"name": "done"}).status == "COMPLETED"

    assert len({one.headers["webhook-id"] for one in receiver.seen}) == 2
    assert len({one.headers["idempotency-key"] for one in receiver.seen}) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_webhook_does_not_follow_a_redirect(run, receiver, status):
    receiver.answers.append((status, b"", {"Location": "/elsewhere"}))

    assert (run(webhook(receiver)).status, len(receiver.seen)) == ("FAILED", 1)


@pytest.mark.parametrize(("status", "ends"), [(410, "FAILED"), (400, "FAILED"), (429, "PENDING"), (502, "PENDING")])
def test_the_answer_of_the_receiver_decides(run, receiver, status, ends):
    receiver.answers.append((status, b"", {}))

    assert run(webhook(receiver)).status == ends


def test_secret_parameters_are_not_sent_to_a_receiver(run, receiver):
    schema = {"type": "object", "properties": {"key": {"type": "string", "writeOnly": True}}}

    assert run(webhook(receiver), schema=schema, parameters={"key": "hunter2"}).status == "COMPLETED"

    assert json.loads(receiver.seen[0].body)["data"]["parameters"] == {"key": "••••"}


def test_the_secret_is_stored_encrypted_and_shown_nowhere(define, operator, receiver):
    define(action=[webhook(receiver, KEYS)])

    stored = Action.objects.get().configuration
    assert secrets.opened(stored)[0]["secret"] == KEYS
    kept = [stored, list(AuditEntry.objects.values_list("before", "after"))]
    assert not any(key.removeprefix("whsec_") in json.dumps(kept) for key in KEYS)


def test_loading_a_webhook_again_changes_nothing(define, operator, receiver):
    action = webhook(receiver)
    before = define(action=[action]).version

    assert define(action=[action]).version == before
    assert define(action=[webhook(receiver, KEYS[1])]).version == before + 1


def test_a_rotation_of_keys_reaches_the_secrets_of_webhooks(run, receiver, define, settings):
    old, new = "the old key of this test, long enough", "the new key of this test, long enough"
    settings.JOBSITE_SECRET_KEYS = (old,)
    define(action=[webhook(receiver)])
    settings.JOBSITE_SECRET_KEYS = (new, old)

    assert rotation.rotate_actions(login="root") == (1, [])
    assert rotation.rotate_actions(login="root") == (0, [])

    settings.JOBSITE_SECRET_KEYS = (new,)
    assert secrets.opened(Action.objects.get().configuration)[0]["secret"] == [KEYS[0]]
    assert AuditEntry.objects.filter(action="rotate secrets", target="sample").count() == 1
    settings.JOBSITE_SECRET_KEYS = ("another key of this test, long enough",)
    assert rotation.rotate_actions(login="root") == (0, ["acme/sample"])


def test_a_webhook_whose_secret_cannot_be_decrypted_says_what_to_do(run, run_job, receiver, settings, define, jobs):
    job = run(webhook(receiver), times=0)
    settings.JOBSITE_SECRET_KEYS = ("another key of this test, long enough",)

    assert run_job(job.number).status == "FAILED"
    assert "load the program again" in Job.objects.get(pk=job.number).error["message"]
    assert not receiver.seen


# ---- what is refused on save -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"kind": "http"}, "url: is required"),
        ({"kind": "http", "url": ""}, "url: expected text that is not empty"),
        ({"kind": "http", "url": "http://x.org", "method": "TRACE"}, "method: expected one of"),
        ({"kind": "http", "url": "http://x.org", "headers": {"X Y": "1"}}, "headers: expected the name of a header"),
        ({"kind": "http", "url": "http://x.org", "expected_status": 99}, "expected_status: item 1: expected a status"),
        ({"kind": "http", "url": "http://x.org", "expected_status": "300-200"}, 'a range such as "200-299"'),
        ({"kind": "http", "url": "http://x.org", "expected_status": []}, "expected a list that is not empty"),
        ({"kind": "http", "url": "http://x.org", "body": {"at": datetime(2026, 1, 1)}}, "body: /at is a datetime"),
        ({"kind": "http", "url": "http://x.org", "secret": KEYS[0]}, "secret"),
        ({"kind": "webhook", "url": "http://x.org"}, "secret: is required"),
        ({"kind": "webhook", "url": "http://x.org", "secret": "short"}, "expected whsec_ and 24 to 64 random bytes"),
        ({"kind": "webhook", "url": "http://x.org", "secret": []}, "expected a list that is not empty"),
        ({"kind": "webhook", "url": "http://x.org", "secret": "whsec_" + "A" * 33}, "24 to 64 random bytes"),
        ({"kind": "http", "url": "http://x.org", "headers": {f"X-{n}": "" for n in range(101)}}, "at most 100 headers"),
        ({"kind": "http", "url": "http://x.org", "name": "x" * 101}, "name: expected a name of at most 100 characters"),
    ],
)
def test_an_invalid_action_is_refused_with_its_place(define, action, said):
    with pytest.raises(DefinitionError) as refusal:
        define(action=[action])

    assert said in str(refusal.value)
    assert "short" not in str(refusal.value)
    assert not Program.objects.exists()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"kind": "http", "url": "ftp://x.org/"}, "action 1: url: ftp://x.org/: only http:// and https:// are allowed"),
        ({"kind": "heartbeat", "url": "x.org"}, "only http:// and https:// are allowed, not a URL without a scheme"),
        ({"kind": "http", "url": "http://u:hunter2@x.org/"}, "carries a user name or password"),
        ({"kind": "http", "url": "http://{{ parameters.host"}, "action 1: 'http://{{ parameters.host'"),
        ({"kind": "http", "url": "http://x.org/", "body": {"a": ["{% if %}"]}}, "action 1: '{% if %}'"),
        ({"kind": "http", "url": "http://x.org/", "headers": {"A": "{{"}}, "action 1: '{{'"),
    ],
)
def test_a_wrong_url_or_template_is_refused_on_load(define, action, said):
    with pytest.raises(Invalid) as refusal:
        define(action=[action])

    assert said in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_a_tenants_admin_may_define_requests_but_no_command(alice_principal, bob_principal):
    def load(hand, action):
        program = from_mapping({"code": "mine", "action": [action]}, where="t", queues=["default"])
        registration.load(hand, [program])

    for action in (
        {"kind": "http", "url": "https://example.org/"},
        {"kind": "heartbeat", "url": "https://example.org/"},
        {"kind": "webhook", "url": "https://example.org/", "secret": KEYS[0]},
    ):
        load(alice_principal, action)
        with pytest.raises(Forbidden):
            load(bob_principal, action)
    with pytest.raises(Forbidden):
        load(alice_principal, {"kind": "command", "argv": ["true"]})
