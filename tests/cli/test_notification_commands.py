"""jobsite notifications: the output and the refusals of its commands."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from jobsite.notifications import delivery, setup
from jobsite.notifications.models import Delivery, Rule, Template
from jobsite.programs.models import Program
from jobsite.tenants.models import Membership, Role, Tenant
from tests.cli.conftest import Answer

Run = Callable[..., Answer]
WORDS = "--- subject\nOh no: {{ program.code }}\n--- text\nJob {{ job.number }} of {{ tenant.name }}.\n--- html\n\n"


@pytest.fixture(autouse=True)
def _acme_is_meant(settings: Any) -> None:
    """Commands without --tenant are for Alice's tenant."""
    settings.JOBSITE_TENANT = "acme"


@pytest.fixture
def started(tenant: Tenant) -> Tenant:
    """Alice's tenant with the templates and the group that a tenant starts with."""
    setup.begin(tenant)
    return tenant


@pytest.fixture
def group(run: Run, started: Tenant) -> str:
    assert run("notifications", "groups", "create", "ops").status == 0
    return "ops"


@pytest.fixture
def vera(tenant: Tenant) -> User:
    """A VIEWER of Alice's tenant."""
    user = User.objects.create_user("vera", "vera@example.org", "vera-password")
    Membership.objects.create(tenant=tenant, user=user, role=Role.VIEWER)
    return user


def create(run: Run, *options: object) -> int:
    """Make a rule of the group ops. Returns its number."""
    return int(run("notifications", "rules", "create", "ops", *options, "--json").json["number"])


def sent(run: Run, *options: object) -> list[int]:
    """Make an inbox rule, test it, and send its messages as the worker does. Returns their numbers."""
    rule = create(run, "--event", "FAILED", "--channel", "inbox", *options)
    numbers = [one["number"] for one in run("notifications", "rules", "test", rule, "--json").json]
    assert [delivery.deliver(number) for number in numbers] == ["SENT"] * len(numbers)
    return numbers


def assert_refused(answer: Answer, status: int, sentence: str) -> None:
    assert (answer.status, answer.out, sentence in answer.err) == (status, "", True), answer
    assert answer.err.count("\n") == 1


# ---- Groups ---------------------------------------------------------------------------------------------------


def test_empty_lists_say_what_to_do(run: Run, tenant: Tenant, bob: User) -> None:
    for words, sentence in (
        (["groups", "list"], "No groups yet. Make one with: jobsite notifications groups create CODE"),
        (["rules", "list"], "No rules yet. Make one with: jobsite notifications rules create GROUP --event FAILED"),
        (["templates", "list"], "No templates yet. Make one with: jobsite notifications templates create CODE"),
        (["deliveries", "list"], "No deliveries yet. Rules make them; try one with: jobsite notifications rules test"),
        (["deliveries", "list", "--status", "failed"], "No such deliveries."),
        (["inbox", "list", "--as", "bob"], "No messages for bob. Rules with --channel inbox send them."),
    ):
        assert sentence in run("notifications", *words).out


def test_a_group_is_made_listed_with_its_programs_and_deleted(
    run: Run, started: Tenant, define: Callable[..., Program]
) -> None:
    made = run("notifications", "groups", "create", "ops", "--name", "On call")
    assert made.out.startswith("group ops is created; give it rules with: jobsite notifications rules create ops")
    define("nightly", notification_group="ops")

    assert run("notifications", "groups", "list", "--json").json == [
        {"code": "default", "name": "Whoever submitted it, and the admins", "rules": 3, "programs": []},
        {"code": "ops", "name": "On call", "rules": 0, "programs": ["nightly"]},
    ]
    assert "programs that name it" in run("notifications", "groups", "list").out
    assert_refused(run("notifications", "groups", "delete", "ops"), 3, "program nightly notifies this group")
    assert run("notifications", "groups", "delete", "default", "--reason", "x").out == (
        "group default is deleted, with its rules\n"
    )
    assert run("notifications", "rules", "list", "--json").json == []


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["groups", "create", "OPS"], 2, "code: expected up to 100 lower-case letters"),
        (["groups", "create", "x", "--name", "n" * 201], 2, "--name: expected at most 200 characters"),
        (["groups", "create", "ops"], 3, "there is a notification group ops already"),
        (["groups", "delete", "nope"], 2, "no notification group nope in tenant acme"),
        (["groups"], 2, "the following arguments are required: COMMAND"),
        (["groups", "burn"], 2, "invalid choice: 'burn'"),
    ],
)
def test_wrong_groups_are_one_sentence(run: Run, group: str, words: list[str], status: int, sentence: str) -> None:
    assert_refused(run("notifications", *words), status, sentence)


# ---- Rules ----------------------------------------------------------------------------------------------------


def test_a_rule_is_made_listed_shown_changed_and_deleted(run: Run, group: str, bob: User) -> None:
    made = run(
        *("notifications", "rules", "create", "ops", "--event", "failed", "--submitter", "--role", "admin"),
        *("--user", "bob", "--address", "a@example.org", "--address", "b@example.org"),
        *("--throttle", "1h30m", "--in-a-row", "3", "--on-recovery", "--template", "failed"),
    )
    number = Rule.objects.get(group__code="ops").pk
    assert made.out == (
        f"rule {number} is created: FAILED by email to the submitter, every ADMIN, bob, a@example.org, b@example.org\n"
    )

    [item] = run("notifications", "rules", "list", "--group", "ops", "--json").json
    assert item == {
        "number": number, "group": "ops", "event": "FAILED", "channel": "email", "template": "failed",
        "to_submitter": True, "to_roles": ["ADMIN"], "to_users": ["bob"],
        "to_addresses": ["a@example.org", "b@example.org"], "to_url": "", "throttle_minutes": 90, "in_a_row": 3,
        "on_recovery": True, "is_active": True,
    }  # fmt: skip
    assert run("notifications", "rules", "show", number, "--json").json == item
    page = run("notifications", "rules", "show", number).out
    assert page.startswith(f"rule {number} of group ops  ACTIVE\n")
    assert "  event       FAILED and recovery\n" in page
    assert "  only        after 3 in a row, once in 1h30m\n" in page
    assert "FAILED and recovery" in run("notifications", "rules", "list").out

    changed = run("notifications", "rules", "change", number, "--address", "c@example.org", "--off")
    assert changed.out.endswith("to the submitter, every ADMIN, bob, c@example.org, but it is off\n")
    away = ["submitter", "role", "user", "throttle", "on-recovery", "template"]
    item = run("notifications", "rules", "change", number, "--on", *(f"--no-{one}" for one in away), "--json").json
    assert (item["to_submitter"], item["to_roles"], item["to_users"], item["template"]) == (False, [], [], "")
    assert (item["throttle_minutes"], item["on_recovery"], item["is_active"]) == (None, False, True)
    assert item["to_addresses"] == ["c@example.org"]
    assert run("notifications", "rules", "delete", number, "--reason", "x").out == f"rule {number} is deleted\n"
    assert run("notifications", "rules", "show", number).status == 2


def test_the_secret_of_a_webhook_is_shown_once(run: Run, group: str) -> None:
    made = run("notifications", "rules", "create", "ops", "--event", "LATE", "--channel", "webhook",
               "--url", "https://example.org/x")  # fmt: skip
    number = Rule.objects.get(group__code="ops").pk

    _said, sentence, secret = made.out.splitlines()
    assert sentence == "Its messages are signed with this secret, shown only now; give it to the receiver:"
    assert secret.startswith("whsec_")
    assert "whsec_" not in run("notifications", "rules", "show", number).out
    assert "secret" not in run("notifications", "rules", "change", number, "--throttle", "5m", "--json").json
    rotated = run("notifications", "rules", "rotate-secret", number).out.splitlines()
    assert rotated[0].startswith(f"The new secret of rule {number}, shown only now; messages are also signed with ")
    assert rotated[1] != secret
    assert run("notifications", "rules", "rotate-secret", number, "--json").json.keys() == {"number", "secret"}


def test_a_rule_that_is_changed_to_a_webhook_gets_a_secret(run: Run, group: str) -> None:
    number = create(run, "--event", "LATE", "--submitter")
    assert_refused(run("notifications", "rules", "rotate-secret", number), 3, "sends by email, which is not signed")

    url = ("--url", "https://example.org/x")
    item = run(
        "notifications", "rules", "change", number, "--channel", "webhook", *url, "--no-submitter", "--json"
    ).json

    assert item["secret"].startswith("whsec_")
    back = run("notifications", "rules", "change", number, "--channel", "email", "--no-url", "--submitter", "--json")
    assert (back.json["to_url"], "secret" in back.json) == ("", False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--event", "BOOM", "--submitter"], "--event: expected SUBMITTED, STARTED"),
        (["--event", "FAILED"], "--submitter: there is nobody to notify; name the submitter, roles"),
        (["--event", "FAILED", "--user", "charlie"], "--user: 'charlie' is no member of tenant acme"),
        (["--event", "FAILED", "--role", "boss"], "--role: expected VIEWER, OPERATOR or ADMIN, got 'BOSS'"),
        (["--event", "FAILED", "--address", "nobody"], "--address: "),
        (["--event", "FAILED", "--submitter", "--url", "https://x.org"], "--url: only a webhook goes to a URL"),
        (["--event", "FAILED", "--channel", "webhook", "--url", "ftp://x"], "--url: "),
        (["--event", "FAILED", "--channel", "fax", "--submitter"], "--channel: expected email, webhook or inbox"),
        (["--event", "FAILED", "--submitter", "--template", "late"], "--template: template late is for LATE"),
        (["--event", "FAILED", "--submitter", "--throttle", "20s"], "--throttle: expected whole minutes, got 20s"),
        (["--event", "FAILED", "--submitter", "--throttle", "5"], '--throttle: "5" has no unit'),
        (["--event", "FAILED", "--submitter", "--throttle", "8d"], "--throttle: expected 1 to 10,080 minutes"),
        (
            ["--event", "LATE", "--submitter", "--in-a-row", "3"],
            "--in-a-row: only FAILED and COMPLETED+ERROR are counted in a row",
        ),
        (
            ["--event", "LATE", "--on-recovery", "--in-a-row", "101"],
            "--in-a-row: expected 1 to 100, got 101; --on-recovery: only FAILED, ",
        ),
        (["--submitter"], "the following arguments are required: --event"),
    ],
)
def test_wrong_rules_are_refused_in_one_sentence_that_names_the_option(
    run: Run, group: str, charlie: User, options: list[str], sentence: str
) -> None:
    assert_refused(run("notifications", "rules", "create", "ops", *options), 2, sentence)


def test_a_rule_that_is_not_there_or_not_changed_is_refused(run: Run, group: str) -> None:
    number = create(run, "--event", "LATE", "--submitter")

    assert_refused(run("notifications", "rules", "change", number), 2, "nothing to change is given; see")
    assert_refused(run("notifications", "rules", "change", number, "--no-submitter"), 2, "--submitter: there is nobody")
    assert_refused(
        run("notifications", "rules", "change", number, "--role", "ADMIN", "--no-role"), 2, "not allowed with argument"
    )
    assert_refused(run("notifications", "rules", "create", "nope", "--event", "LATE", "--submitter"), 2, "group nope")
    assert_refused(run("notifications", "rules", "list", "--group", "nope"), 2, "no notification group nope")
    for act in ("show", "delete", "test", "rotate-secret"):
        assert_refused(run("notifications", "rules", act, 10**20), 2, f"no rule {10**20} in tenant acme")


def test_a_test_prints_its_recipients_or_why_there_are_none(run: Run, group: str, alice: User, bob: User) -> None:
    number = create(run, "--event", "COMPLETED+ERROR", "--submitter")
    assert_refused(run("notifications", "rules", "test", number), 3, "; give --as USER to test it as the submitter")

    answer = run("notifications", "rules", "test", number, "--as", "alice")
    row = Delivery.objects.get()
    assert answer.out.startswith(f"delivery {row.pk}: FAILED by email to alice\nA worker of the queue notifications")
    run("notifications", "rules", "change", number, "--user", "bob")
    [item] = run("notifications", "rules", "test", number, "--json").json
    assert (item["to"], item["status"], item["is_test"], item["rule"]) == ("bob", "PENDING", True, number)
    run("notifications", "rules", "change", number, "--off")
    assert_refused(
        run("notifications", "rules", "test", number), 3, f"with: jobsite notifications rules change {number} --on"
    )


# ---- Templates ------------------------------------------------------------------------------------------------


def test_set_reads_the_output_of_show(
    run: Run, started: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "failed.liquid"
    for template in Template.objects.all():
        for language in ("en", "de"):
            shown = run("notifications", "templates", "show", template.code, "--language", language).out
            file.write_text(shown, encoding="utf-8")
            command = ("notifications", "templates", "set", template.code, "--language", language)
            assert run(*command, "--file", file).status == 0
            assert run("notifications", "templates", "show", template.code, "--language", language).out == shown

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(WORDS.replace("\n", "\r\n").encode())))
    assert run("notifications", "templates", "set", "failed", "--language", "de", "--file", "-").status == 0
    item = run("notifications", "templates", "show", "failed", "--language", "de", "--json").json
    assert item == {
        "code": "failed", "event": "FAILED", "is_default": True, "changed": ["de"], "language": "de",
        "subject": "Oh no: {{ program.code }}", "text": "Job {{ job.number }} of {{ tenant.name }}.", "html": "",
    }  # fmt: skip


def test_a_template_is_made_listed_changed_previewed_restored_and_deleted(
    run: Run, started: Tenant, tmp_path: Path
) -> None:
    file = tmp_path / "words"
    file.write_text(WORDS)
    made = run("notifications", "templates", "create", "pager", "--event", "failed")
    assert made.out.startswith("template pager is created with the text of FAILED; change it with: jobsite")

    tried = run("notifications", "templates", "preview", "pager", "--file", file, "--json").json
    assert (tried["subject"], tried["text"]) == ("Oh no: recalc_scores", "Job 4711 of Acme.\n")
    assert run("notifications", "templates", "preview", "pager").out.startswith("FAILED: Recalculate scores (job 4711)")
    done = run("notifications", "templates", "set", "pager", "--language", "de", "--file", file)
    assert done.out.startswith("template pager has this text in de now; see it with: jobsite notifications ")
    items = {one["code"]: one for one in run("notifications", "templates", "list", "--json").json}
    assert len(items) == 13
    assert items["pager"] == {"code": "pager", "event": "FAILED", "is_default": False, "changed": ["de"]}
    [line] = [line for line in run("notifications", "templates", "list").out.splitlines() if "pager" in line]
    assert line.split() == ["pager", "FAILED", "by", "rules", "that", "name", "it", "de"]
    preview = ("notifications", "templates", "preview", "pager", "--language", "de")
    assert run(*preview).out == "Oh no: recalc_scores\n\nJob 4711 of Acme.\n"
    assert "<html lang=" in run(*preview, "--html").out
    restore = ("notifications", "templates", "restore", "pager", "--language", "de")
    assert run(*restore).out == "template pager has jobsite's own text in de again\n"
    assert run(*restore).out == "template pager was not changed in de; nothing to restore\n"
    assert run("notifications", "templates", "delete", "pager", "--reason", "x").out == "template pager is deleted\n"
    assert run("notifications", "templates", "show", "pager").status == 2


def test_a_preview_can_be_of_a_job_and_is_in_the_tenants_language(
    run: Run, started: Tenant, define: Callable[..., Program]
) -> None:
    define("nightly")
    number = run("submit", "nightly", "--json").json["number"]
    Tenant.objects.update(language="de-AT")

    found = run("notifications", "templates", "preview", "submitted", "--job", number, "--json").json

    assert (found["language"], f"Job {number}" in found["subject"]) == ("de", True)
    assert_refused(
        run("notifications", "templates", "preview", "submitted", "--job", number + 1), 2, f"no job {number + 1}"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("Hello", "expected each section once, after a line of its own: --- subject, --- text, and optionally "),
        ("--- subject\nx\n", "expected each section once"),
        ("x\n--- subject\nx\n--- text\nx\n", "expected each section once"),
        ("--- subject\nx\n--- text\nx\n--- text\ny\n", "expected each section once"),
        ("--- subject\n--- text\nx\n", ": subject: it is empty"),
        ("--- subject\nx\n--- text\nx\n{% if %}\n", ": text, line 2: "),
        ("\udcff", "cannot read "),
    ],
)
def test_wrong_texts_are_refused_in_one_sentence_that_names_the_file(
    run: Run, started: Tenant, tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "words"
    file.write_bytes(content.encode(errors="surrogateescape"))

    answer = run("notifications", "templates", "set", "failed", "--language", "de", "--file", file)

    assert_refused(answer, 2, sentence)
    assert str(file) in answer.err
    assert run("notifications", "templates", "list", "--json").json[0]["changed"] == []


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["show", "nope"], 2, "no template nope in tenant acme"),
        (["show", "failed", "--language", "it"], 2, "argument --language: invalid choice: 'it'"),
        (["set", "failed", "--language", "de", "--file", "/nowhere"], 2, "cannot read /nowhere"),
        (["restore", "nope", "--language", "de"], 2, "no template nope"),
        (["preview", "nope"], 2, "no template nope"),
        (["create", "x", "--event", "COMPLETED+ERROR"], 2, "--event: expected one of SUBMITTED"),
        (["create", "X", "--event", "FAILED"], 2, "code: expected up to 100"),
        (["create", "failed", "--event", "FAILED"], 3, "there is a template failed already"),
        (["delete", "failed"], 3, "template failed is the event's own; restore it instead"),
    ],
)
def test_wrong_templates_are_one_sentence(
    run: Run, started: Tenant, words: list[str], status: int, sentence: str
) -> None:
    assert_refused(run("notifications", "templates", *words), status, sentence)


def test_a_template_that_a_rule_names_cannot_be_deleted(run: Run, group: str) -> None:
    run("notifications", "templates", "create", "pager", "--event", "FAILED")
    number = create(run, "--event", "COMPLETED+ERROR", "--submitter", "--template", "pager")

    assert_refused(run("notifications", "templates", "delete", "pager"), 3, f"rule {number} uses it")
    assert "pager" in run("notifications", "rules", "list").out


# ---- Deliveries -----------------------------------------------------------------------------------------------


def test_deliveries_are_listed_shown_and_sent_again(run: Run, group: str, bob: User) -> None:
    [number] = sent(run, "--user", "bob")

    [item] = run("notifications", "deliveries", "list", "--json").json
    assert item.keys() == {
        "number", "event", "job", "program", "schedule", "is_test", "rule", "group", "channel", "to", "status",
        "reason", "attempts", "happened_at", "due_at", "finished_at", "message_id", "language", "subject", "text",
        "read_at",
    }  # fmt: skip
    assert (item["number"], item["to"], item["group"], item["status"]) == (number, "bob", "ops", "SENT")
    assert run("notifications", "deliveries", "show", number, "--json").json == item
    assert run("notifications", "deliveries", "list", "--status", "sent", "--json").json == [item]
    assert run("notifications", "deliveries", "list", "--status", "FAILED", "--json").json == []
    assert "a test" in run("notifications", "deliveries", "list").out
    page = run("notifications", "deliveries", "show", number).out
    assert page.startswith(f"delivery {number}  SENT\n")
    assert page.endswith("https://jobs.example.com/jobs/4711\n")

    again = run("notifications", "deliveries", "send-again", number, "--reason", "lost")
    assert again.out == f"delivery {number} is sent again, as a new message\n"
    assert "  next try    due now\n" in run("notifications", "deliveries", "show", number).out
    assert_refused(run("notifications", "deliveries", "send-again", number), 3, f"delivery {number} waits to be sent")


def test_the_deliveries_of_a_job_name_it(run: Run, group: str, bob: User, define: Callable[..., Program]) -> None:
    create(run, "--event", "SUBMITTED", "--address", "a@example.org")
    define("nightly", notification_group="ops")
    define("silent")
    number = run("submit", "nightly", "--json").json["number"]
    other = run("submit", "silent", "--json").json["number"]

    [item] = run("notifications", "deliveries", "list", "--job", number, "--json").json

    assert (item["job"], item["program"], item["event"]) == (number, "nightly", "SUBMITTED")
    assert f"#{number} nightly" in run("notifications", "deliveries", "list").out
    assert run("notifications", "deliveries", "list", "--job", other).out == "No such deliveries.\n"
    assert "notified      a@example.org of SUBMITTED by email (PENDING)" in run("jobs", "show", number).out
    assert "notified" not in run("jobs", "show", other).out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "--status", "gone"], "--status: expected one of PENDING, SENT, FAILED, SUPPRESSED, got 'GONE'"),
        (["list", "--limit", "0"], "--limit: expected 1 to 200, got 0"),
        (["list", "--job", "99999999999999999999"], "no job 99999999999999999999"),
        (["list", "--job", "x"], "argument --job: invalid int value: 'x'"),
        (["show", "99999999999999999999"], "no delivery 99999999999999999999 in tenant acme"),
        (["send-again", "1"], "no delivery 1 in tenant acme"),
    ],
)
def test_wrong_deliveries_are_one_sentence(run: Run, started: Tenant, words: list[str], sentence: str) -> None:
    assert_refused(run("notifications", "deliveries", *words), 2, sentence)


# ---- The inbox ------------------------------------------------------------------------------------------------


def test_an_inbox_shows_what_is_unread_and_marks_it_read(run: Run, group: str, alice: User, bob: User) -> None:
    first, *_others = sent(run, "--user", "bob")
    second, third = sent(run, "--user", "bob", "--user", "alice")
    mine = second if Delivery.objects.get(pk=second).user == bob else third

    page = run("notifications", "inbox", "list", "--as", "bob").out
    assert "2 unread; read one with: jobsite notifications inbox read N --as bob" in page
    read = run("notifications", "inbox", "read", mine, "--as", "bob").out
    assert read.splitlines()[1] == "FAILED: Recalculate scores (job 4711)"
    found = run("notifications", "inbox", "list", "--as", "bob", "--json").json
    assert (found["unread"], [one["number"] for one in found["items"]]) == (1, [mine, first])
    assert [one["read_at"] is None for one in found["items"]] == [False, True]
    assert run("notifications", "inbox", "read", "--as", "bob").out == "1 message is marked read\n"
    assert run("notifications", "inbox", "list", "--as", "bob").out.endswith("0 unread\n")
    assert run("notifications", "inbox", "list", "--as", "alice", "--json").json["unread"] == 1


def test_an_inbox_belongs_to_one_user(run: Run, group: str, alice: User, bob: User) -> None:
    [number] = sent(run, "--user", "alice")

    assert_refused(run("notifications", "inbox", "list"), 2, "the following arguments are required: --as")
    assert_refused(run("notifications", "inbox", "read", "--as", "nobody"), 2, "no user nobody")
    for one in (number, 10**20):
        assert_refused(
            run("notifications", "inbox", "read", one, "--as", "bob"), 2, f"no message {one} in the inbox of bob"
        )
    assert_refused(run("notifications", "inbox", "list", "--as", "bob", "--limit", "201"), 2, "--limit: expected 1 to")


# ---- Who may what ---------------------------------------------------------------------------------------------


def test_charlie_sees_nothing_of_another_tenant(run: Run, group: str, bob: User, charlie: User) -> None:
    [number] = sent(run, "--user", "bob")
    rule = Rule.objects.get(group__code="ops").pk
    run("notifications", "templates", "create", "pager", "--event", "FAILED", "--tenant", "acme")
    theirs = ("--tenant", "umbrella", "--as", "charlie")

    for kind in ("groups", "rules", "templates", "deliveries"):
        assert run("notifications", kind, "list", *theirs, "--json").json == []
    assert run("notifications", "inbox", "list", *theirs, "--json").json == {"unread": 0, "items": []}
    acts: list[Sequence[object]] = [
        ["groups", "delete", "ops"],
        ["rules", "list", "--group", "ops"],
        *(["rules", act, rule] for act in ("show", "delete", "test", "rotate-secret")),
        ["rules", "change", rule, "--off"],
        ["templates", "show", "pager"],
        ["templates", "delete", "pager"],
        ["deliveries", "show", number],
        ["deliveries", "send-again", number],
        ["inbox", "read", number],
    ]
    for words in acts:
        answer = run("notifications", *words, *theirs)
        assert (answer.status, answer.out, answer.err[:12]) == (2, "", "jobsite: no "), answer
    assert_refused(
        run("notifications", "rules", "list", "--tenant", "acme", "--as", "charlie"), 3, "no active member of tenant"
    )


@pytest.mark.parametrize("name", ["vera", "bob"])
def test_only_an_admin_changes_rules_and_templates(
    run: Run, group: str, vera: User, bob: User, tmp_path: Path, name: str
) -> None:
    rule = create(run, "--event", "FAILED", "--role", "OPERATOR")
    file = tmp_path / "words"
    file.write_text(WORDS)

    acts: list[Sequence[object]] = [
        ["groups", "create", "x"],
        ["groups", "delete", "ops"],
        ["rules", "create", "ops", "--event", "FAILED", "--submitter"],
        ["rules", "change", rule, "--off"],
        *(["rules", act, rule] for act in ("delete", "test", "rotate-secret")),
        ["templates", "create", "x", "--event", "FAILED"],
        ["templates", "set", "failed", "--language", "de", "--file", file],
        ["templates", "restore", "failed", "--language", "de"],
        ["templates", "delete", "failed"],
    ]
    for words in acts:
        answer = run("notifications", *words, "--as", name)
        assert_refused(answer, 3, f"{name} lacks jobs:admin in tenant acme")
    assert run("notifications", "rules", "show", rule, "--as", name).status == 0
    assert run("notifications", "templates", "preview", "failed", "--as", name).status == 0


def test_an_operator_may_send_again_and_a_viewer_may_not(run: Run, group: str, vera: User, bob: User) -> None:
    [number] = sent(run, "--user", "bob")

    again = ("notifications", "deliveries", "send-again", number)
    assert_refused(run(*again, "--as", "vera"), 3, "vera lacks jobs:write")
    assert run(*again, "--as", "bob").status == 0


# ---- The language of a member ---------------------------------------------------------------------------------


def test_a_member_can_have_a_language_of_their_own(run: Run, tenant: Tenant, bob: User) -> None:
    assert run("members", "add", "bob", "--language", "de-AT").out == "bob is OPERATOR in acme, with language de-AT\n"
    assert run("members", "add", "bob", "--role", "ADMIN").out == "bob is ADMIN in acme, with language de-AT\n"
    assert run("members", "list").out.splitlines()[1].split() == ["bob", "ADMIN", "de-AT"]
    assert run("members", "add", "bob", "--language", "").out == "bob is ADMIN in acme\n"
    for wrong in ("german!", "x", "de-" * 6 + "de"):
        assert_refused(run("members", "add", "bob", "--language", wrong), 2, "--language: expected a language such as")


def test_a_new_member_is_a_viewer(run: Run, tenant: Tenant, charlie: User) -> None:
    assert run("members", "add", "charlie", "--tenant", "acme").out == "charlie is VIEWER in acme\n"
