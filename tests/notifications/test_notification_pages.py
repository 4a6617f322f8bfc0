"""Notifications in the admin: who sees and does what, errors beside their fields, and previews of words."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobsite import vault
from jobsite.notifications import defaults, operations, setup
from jobsite.notifications.admin import delivery
from jobsite.notifications.admin import inbox as inbox_page
from jobsite.notifications.events import LANGUAGES, Event
from jobsite.notifications.models import Delivery, Group, Rule, Template, Translation
from jobsite.notifications.rendering import Wording
from jobsite.notifications.rules import Wanted
from jobsite.programs.admin import job_page
from jobsite.programs.models import Program
from jobsite.tenants.models import AuditEntry, Membership, Role, Tenant
from jobsite.tenants.principals import Principal
from tests.programs.admin.test_job_pages import logged_in, messages_of, queries_of
from tests.programs.conftest import FAILURE, Jobs

BASE = "/admin/jobsite_notifications/"
GROUPS, RULES, TEMPLATES, DELIVERIES = (f"{BASE}{name}/" for name in ("group", "rule", "template", "delivery"))
INBOX = f"{DELIVERIES}inbox/"
SURE = {"confirm": "1"}
HOSTILE = "<script>alert('x')</script>"
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;"
EMPTY = {
    "is_active": "on",
    "event": "FAILED",
    "in_a_row": "1",
    "throttle_minutes": "",
    "to_users": "",
    "to_addresses": "",
    "channel": "email",
    "to_url": "",
    "template": "",
}


@pytest.fixture(autouse=True)
def _begun(tenant: Tenant) -> None:
    setup.begin(tenant)


@pytest.fixture
def hook(ops: Group, alice_principal: Principal) -> Rule:
    """A rule of a webhook."""
    wanted = Wanted(event="FAILED", channel="webhook", to_url="https://hooks.example.org/x")
    return operations.create_rule(alice_principal, "ops", wanted)[0]


@pytest.fixture
def failed(tenant: Tenant) -> Template:
    """The template of the event FAILED."""
    return Template.objects.get(tenant=tenant, code="failed")


@pytest.fixture
def deliver(tenant: Tenant) -> Callable[..., Delivery]:
    """Make a delivery, ended or pending: `deliver(status="FAILED", reason="…")`."""

    def make(**fields: Any) -> Delivery:
        number = Delivery.objects.count()
        known: dict[str, Any] = {"tenant": tenant, "event": "FAILED", "channel": "email", "status": "SENT"}
        known |= {"dedupe_key": f"of the test {number}", "source": "program 1", "job_number": 4711}
        if "user" not in fields:
            known["address"] = "ops@example.org"
        known |= fields
        if known["status"] != "PENDING":
            known.setdefault("finished_at", "2026-11-02T10:00:00Z")
        return Delivery.objects.create(**known)

    return make


@pytest.fixture
def inbox(deliver: Callable[..., Delivery]) -> Callable[..., Delivery]:
    """Make a message in the inbox of a user."""

    def make(user: User, **fields: Any) -> Delivery:
        return deliver(user=user, channel="inbox", **{"subject": "It failed", "text": "No answer"} | fields)

    return make


def page(row: Any) -> str:
    return f"{BASE}{row._meta.model_name}/{row.pk}/change/"


def act(row: Any, name: str) -> str:
    return f"{BASE}{row._meta.model_name}/{row.pk}/act/{name}/"


def words(row: Template, language: str) -> str:
    return f"{page(row)}?language={language}"


def shown(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def errors(client: Client, address: str, data: dict[str, Any]) -> dict[str, list[str]]:
    answer = client.post(address, data)
    assert answer.status_code == 200
    found = answer.context["adminform"].form if "adminform" in answer.context else answer.context["form"]
    return {name: list(said) for name, said in found.errors.items()}


def buttons(client: Client, row: Any) -> list[str]:
    return [one.name for one, _ in client.get(page(row)).context["acts"]]


# ---- Who gets in ----------------------------------------------------------------------------------------------


def test_a_stranger_sees_nothing_and_gets_404(
    charlie: User, hook: Rule, failed: Template, deliver: Callable[..., Delivery]
) -> None:
    client, sent = logged_in(charlie), deliver(subject="a secret of theirs")

    for address in (GROUPS, RULES, TEMPLATES, DELIVERIES, INBOX):
        assert not re.search("ops|hooks.example|a secret", shown(client, address))
    for row in (hook.group, hook, failed, sent):
        for address in (page(row), page(row).replace("change", "history"), page(row).replace("change", "delete")):
            assert client.get(address).status_code == 404
        for name in ("delete", "test", "secret", "again", "restore-en"):
            assert client.post(act(row, name), SURE).status_code == 404
    assert client.post(words(failed, "en"), {"save": "1", "subject": "x", "text": "x"}).status_code == 404


def test_rows_of_another_tenant_are_neither_offered_nor_accepted(alice: User, other_tenant: Tenant, ops: Group) -> None:
    theirs = Group.objects.create(tenant=other_tenant, code="theirs")
    words_of_theirs = Template.objects.create(tenant=other_tenant, code="their.words", event="FAILED")
    client = logged_in(alice)

    assert "their" not in shown(client, f"{RULES}add/")
    given = EMPTY | {"group": theirs.pk, "template": words_of_theirs.pk, "to_submitter": "on"}
    assert errors(client, f"{RULES}add/", given).keys() == {"group", "template"}
    assert "tenant" in errors(client, f"{GROUPS}add/", {"tenant": other_tenant.pk, "code": "x", "name": ""})
    assert not Rule.objects.filter(group=theirs).exists()


def test_the_offered_buttons_depend_on_the_role(
    alice: User, bob: User, vera: User, hook: Rule, failed: Template, deliver: Callable[..., Delivery]
) -> None:
    rows = (hook.group, hook, failed, deliver())

    def offered(user: User) -> list[list[str]]:
        client = logged_in(user)
        return [buttons(client, row) for row in rows]

    assert offered(alice) == [["delete"], ["test", "secret", "delete"], [], ["again"]]
    assert offered(bob) == [[], [], [], ["again"]]
    assert offered(vera) == [[], [], [], []]


def test_a_superuser_sees_all_with_the_tenant(superuser: User, hook: Rule, deliver: Callable[..., Delivery]) -> None:
    deliver()
    client = logged_in(superuser)

    for address in (GROUPS, RULES, TEMPLATES, DELIVERIES):
        assert 'class="field-tenant' in shown(client, address)
    assert "ops – acme" in shown(client, f"{RULES}add/")


@pytest.mark.parametrize("address", [GROUPS, RULES, TEMPLATES, DELIVERIES, INBOX, f"{INBOX}?show=all"])
def test_a_longer_list_costs_no_more_queries(
    bob: User,
    address: str,
    hook: Rule,
    rule: Callable[..., Rule],
    alice_principal: Principal,
    inbox: Callable[..., Delivery],
) -> None:
    client = logged_in(bob)
    inbox(bob, rule=hook)
    before = len(queries_of(client, address))
    for number in range(5):
        operations.create_group(alice_principal, f"more-{number}")
        operations.create_template(alice_principal, f"more-{number}", "FAILED")
        rule("FAILED", to_users=[bob], channel="inbox")
        inbox(bob, rule=hook)

    after = queries_of(client, address)

    assert len(after) == before <= 12
    if address.startswith(DELIVERIES):
        assert not [sql for sql in after if "COUNT(" in sql.upper()]


# ---- Groups ---------------------------------------------------------------------------------------------------


def test_a_group_shows_its_rules_and_the_programs_that_name_it(bob: User, watched: Program, hook: Rule) -> None:
    client = logged_in(bob)

    assert re.search(r'field-rules_counted">1<.*field-programs_shown">watched<', shown(client, GROUPS))
    told = shown(client, page(hook.group))
    assert f'<a href="{page(hook)}">FAILED</a>' in told
    assert "https://hooks.example.org/x" in told
    of_program = f"/admin/jobsite_programs/program/{watched.pk}/change/"
    assert f'<a href="{of_program}">watched</a>' in told
    assert f'<a href="{page(hook.group)}">ops</a>' in shown(client, of_program)


def test_a_group_is_made_and_deleted_with_a_reason(alice: User, tenant: Tenant) -> None:
    client = logged_in(alice)

    answer = client.post(f"{GROUPS}add/", {"tenant": tenant.pk, "code": "night", "name": HOSTILE}, follow=True)
    assert messages_of(answer) == ["Group night is made; now add its rules."]
    group = Group.objects.get(code="night")
    assert ESCAPED in shown(client, GROUPS)
    assert HOSTILE not in shown(client, page(group))
    assert "Its rules are deleted with it" in client.post(act(group, "delete")).content.decode()
    answer = client.post(act(group, "delete"), SURE | {"reason": "nobody is there"}, follow=True)

    assert messages_of(answer) == ["Group night is deleted with its rules."]
    assert "night" not in shown(client, GROUPS)
    entries = AuditEntry.objects.filter(target_type="group").order_by("id").values_list("actor", "action", "reason")
    assert list(entries) == [("alice", "group created", ""), ("alice", "group deleted", "nobody is there")]


def test_the_error_for_a_wrong_or_taken_code_appears_beside_it(alice: User, tenant: Tenant, ops: Group) -> None:
    client = logged_in(alice)

    for address, code in ((GROUPS, "ops"), (TEMPLATES, "failed"), (GROUPS, "Night Shift"), (TEMPLATES, "ä")):
        given = {"tenant": tenant.pk, "code": code, "name": "", "event": "FAILED"}
        assert errors(client, f"{address}add/", given).keys() == {"code"}


def test_a_group_that_a_program_names_cannot_be_deleted(alice: User, watched: Program, ops: Group) -> None:
    answer = logged_in(alice).post(act(ops, "delete"), SURE, follow=True)

    assert messages_of(answer) == ["Program watched notifies this group; give it another first."]
    assert answer.redirect_chain[-1][0] == page(ops)


def test_empty_pages_say_what_to_do(alice: User, ops: Group) -> None:
    client = logged_in(alice)
    Rule.objects.all().delete()

    assert "Add one with the button above" in shown(client, page(ops))
    assert f"{RULES}add/?group={ops.pk}" in shown(client, page(ops))
    assert "say who is notified of which event" in shown(client, RULES)
    assert "Nothing was sent yet" in shown(client, DELIVERIES)
    assert "Nothing unread" in shown(client, INBOX)
    assert "A rule of the channel inbox" in shown(client, f"{INBOX}?show=all")


# ---- Rules ----------------------------------------------------------------------------------------------------


def test_a_rule_is_made_with_all_its_fields(alice: User, bob: User, ops: Group, alice_principal: Principal) -> None:
    template = operations.create_template(alice_principal, "short", "FAILED")
    given = EMPTY | {
        "group": ops.pk,
        "in_a_row": "3",
        "on_recovery": "on",
        "throttle_minutes": "15",
        "to_submitter": "on",
        "to_roles": ["ADMIN", "OPERATOR"],
        "to_users": " bob \r\n\r\n alice ",
        "to_addresses": "a@example.org, b@example.org",
        "template": template.pk,
    }

    answer = logged_in(alice).post(f"{RULES}add/", given)

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert operations.rule_as_data(operations.rules_of(alice_principal, group="ops").get()) == {
        "group": "ops",
        "event": "FAILED",
        "channel": "email",
        "template": "short",
        "to_submitter": True,
        "to_roles": ("ADMIN", "OPERATOR"),
        "to_users": ("alice", "bob"),
        "to_addresses": ("a@example.org", "b@example.org"),
        "to_url": "",
        "throttle_minutes": 15,
        "in_a_row": 3,
        "on_recovery": True,
        "is_active": True,
    }


def test_each_wrong_field_says_what_is_wrong(alice: User, ops: Group) -> None:
    wrong = {
        "group": ops.pk,
        "event": "COMPLETED",
        "in_a_row": "3",
        "on_recovery": "on",
        "throttle_minutes": "0",
        "to_users": "charlie",
        "to_addresses": "nobody",
        "to_url": "https://hooks.example.org/x",
    }

    assert errors(logged_in(alice), f"{RULES}add/", EMPTY | wrong) == {
        "in_a_row": ["Only FAILED and COMPLETED+ERROR are counted in a row."],
        "on_recovery": ["Only FAILED, COMPLETED+ERROR, SCHEDULE_MISSED have a recovery."],
        "throttle_minutes": ["Expected 1 to 10,080 minutes, got 0."],
        "to_users": ["'charlie' is no member of tenant acme."],
        "to_addresses": ["'nobody' is not a valid e-mail address."],
        "to_url": ["Only a webhook goes to a URL."],
    }
    assert errors(logged_in(alice), f"{RULES}add/", EMPTY | {"group": ops.pk}) == {
        "to_submitter": ["There is nobody to notify; name the submitter, roles, users or addresses."]
    }
    assert not Rule.objects.filter(group=ops).exists()


def test_a_webhooks_secret_is_shown_once(alice: User, ops: Group) -> None:
    client = logged_in(alice)
    given = EMPTY | {"group": ops.pk, "channel": "webhook", "to_url": "https://hooks.example.org/x"}

    answer = client.post(f"{RULES}add/", given, follow=True)
    row = Rule.objects.get(group=ops)
    first = vault.opened(row.secret[0])
    assert f"The secret of this webhook, which is shown this once: {first}" in messages_of(answer)
    assert "whsec_" not in shown(client, page(row))

    answer = client.post(act(row, "secret"), SURE, follow=True)
    row.refresh_from_db()
    second = vault.opened(row.secret[0])
    assert messages_of(answer) == [f"The secret of this webhook, which is shown this once: {second}"]
    assert [vault.opened(one) for one in row.secret] == [second, first]
    assert "whsec_" not in shown(client, page(row))
    assert not AuditEntry.objects.filter(after__icontains="whsec_").exists()


def test_a_changed_rule_keeps_what_was_not_edited(alice: User, hook: Rule) -> None:
    client = logged_in(alice)
    form = client.get(page(hook)).context["adminform"].form
    given = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in given.items() if value not in (None, False, ())} | {"throttle_minutes": "9"}

    answer = client.post(page(hook), sent)

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    changed = Rule.objects.get(pk=hook.pk)
    assert (changed.throttle_minutes, changed.to_url, changed.secret) == (9, hook.to_url, hook.secret)
    assert changed.is_active


def test_an_operator_sees_rules_but_cannot_change_them(bob: User, hook: Rule, rule: Callable[..., Rule]) -> None:
    client = logged_in(bob)
    told = shown(client, page(rule("FAILED", to_addresses=[], to_users=[bob], to_roles=["ADMIN"])))

    assert "every ADMIN, bob" in told
    assert client.get(f"{RULES}add/").status_code == 403
    assert client.post(page(hook), EMPTY | {"to_submitter": "on"}).status_code == 403
    for name in ("test", "secret", "delete"):
        assert client.post(act(hook, name), SURE).status_code == 403
    hook.refresh_from_db()
    assert (hook.channel, hook.deleted_at) == ("webhook", None)


def test_a_test_goes_to_all_recipients_and_names_them(alice: User, rule: Callable[..., Rule]) -> None:
    row = rule("FAILED", to_addresses=["a@example.org", "b@example.org"])
    client = logged_in(alice)

    assert "Real messages go out" in client.post(act(row, "test")).content.decode()
    assert not Delivery.objects.exists()
    answer = client.post(act(row, "test"), SURE, follow=True)

    sent = list(Delivery.objects.order_by("address"))
    assert [one.address for one in sent] == ["a@example.org", "b@example.org"]
    [said] = messages_of(answer)
    assert said.startswith("2 messages with sample facts are on the way")
    assert f'<a href="{page(sent[0])}">to a@example.org</a>' in said
    assert "A test of the rule" in shown(client, page(sent[0]))


def test_a_rule_that_reaches_nobody_says_so(alice: User, rule: Callable[..., Rule]) -> None:
    row = rule("FAILED", to_roles=["VIEWER"])

    answer = logged_in(alice).post(act(row, "test"), SURE, follow=True)

    assert messages_of(answer) == [f"Rule {row.pk} reaches nobody now."]


def test_a_rule_is_deleted_with_a_reason(alice: User, hook: Rule) -> None:
    client = logged_in(alice)

    answer = client.post(act(hook, "delete"), SURE | {"reason": "moved"}, follow=True)

    assert messages_of(answer) == [f"Rule {hook.pk} is deleted."]
    assert client.get(page(hook)).status_code == 404
    assert AuditEntry.objects.get(action="rule deleted").reason == "moved"


# ---- Templates ------------------------------------------------------------------------------------------------


def test_the_list_shows_which_languages_were_changed(bob: User, failed: Template, alice_principal: Principal) -> None:
    operations.save_words(alice_principal, "failed", "de", Wording("Fehler", "Fehler"))

    assert shown(logged_in(bob), TEMPLATES).count('class="jobsite-language">') == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_shows_the_words_in_use_and_their_rendering(bob: User, failed: Template, language: str) -> None:
    answer = logged_in(bob).get(words(failed, language))

    ours = defaults.wording(Event.FAILED, language)
    assert answer.context["form"]["subject"].value() == ours.subject
    assert "4711" in answer.context["rendered"].subject
    assert 'name="save"' not in answer.content.decode()


def test_words_are_saved_and_restored(alice: User, failed: Template) -> None:
    client = logged_in(alice)
    given = {"subject": "Fehler: {{ job.number }}", "text": "Eins\r\nZwei", "html": ""}

    answer = client.post(words(failed, "de"), given | {"save": "1"}, follow=True)
    assert messages_of(answer) == ["The words in German are saved, and used from now on."]
    assert answer.redirect_chain[-1][0] == words(failed, "de")
    row = Translation.objects.get()
    assert (row.language, row.subject, row.text) == ("de", "Fehler: {{ job.number }}", "Eins\nZwei")
    assert "restore-de" in [one.name for one, _ in answer.context["acts"]]
    assert "restore-de" not in buttons(client, failed)  # the page of English

    answer = client.post(act(failed, "restore-de"), SURE, follow=True)
    assert messages_of(answer) == ["Template failed has the event's own words in German again."]
    assert not Translation.objects.exists()
    assert AuditEntry.objects.get(action="template restored").actor == "alice"


def test_unchanged_words_are_not_written(alice: User, failed: Template) -> None:
    ours = defaults.wording(Event.FAILED, "en")
    given = {part: getattr(ours, part).replace("\n", "\r\n") for part in ("subject", "text", "html")}

    answer = logged_in(alice).post(words(failed, "en"), given | {"save": "1"}, follow=True)

    assert messages_of(answer) == ["Nothing was changed."]
    assert not Translation.objects.exists()


@pytest.mark.parametrize("button", ["save", "preview"])
def test_errors_in_words_appear_beside_them_with_the_line_and_the_words_are_kept(
    alice: User, failed: Template, button: str
) -> None:
    broken = {"subject": "", "text": "one\r\n{{ job.number | nonsense }}", "html": "<p>{% if %}"}
    client = logged_in(alice)

    found = errors(client, words(failed, "en"), broken | {button: "1"})

    assert found.keys() == {"subject", "text", "html"}
    assert found["subject"] == ["Subject: it is empty."]
    assert found["text"][0].startswith("Text, line 2: ")
    again = client.post(words(failed, "en"), broken | {button: "1"})
    assert "{{ job.number | nonsense }}" in again.content.decode()
    assert again.context["rendered"] is None
    assert not Translation.objects.exists()


def test_the_preview_reports_an_unknown_name(alice: User, failed: Template) -> None:
    given = {"subject": "x", "text": "one\n{{ job.colour }}", "html": "", "preview": "1"}

    found = errors(logged_in(alice), words(failed, "en"), given)

    assert found.keys() == {"text"}
    assert "colour" in found["text"][0]


def test_a_preview_uses_a_job_or_sample_data_and_saves_nothing(
    alice: User, jobs: Jobs, watched: Program, failed: Template
) -> None:
    number = jobs.ended(FAILURE, program=watched)
    client = logged_in(alice)
    given = {"subject": "{{ program.code }} {{ job.number }}", "text": HOSTILE, "html": "", "preview": "1"}

    of_sample = client.post(words(failed, "en"), given)
    of_job = client.post(words(failed, "en"), given | {"job": f"#{number}"})

    assert of_sample.context["rendered"].subject == "recalc_scores 4711"
    assert of_job.context["rendered"].subject == f"watched {number}"
    told = of_job.content.decode()
    assert f"Preview with job #{number}" in told
    assert HOSTILE not in told
    assert not Translation.objects.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("999", "No job 999 in tenant acme."),
        ("nonsense", "Expected a job's number, such as 4711."),
        ("9" * 20, "Expected a job's number, such as 4711."),
    ],
)
def test_an_invalid_job_number_is_an_error(alice: User, failed: Template, given: str, said: str) -> None:
    tried = {"subject": "x", "text": "x", "html": "", "preview": "1", "job": given}

    assert errors(logged_in(alice), words(failed, "en"), tried) == {"job": [said]}


def test_a_job_of_another_tenant_cannot_be_previewed(
    alice: User, charlie: User, other_tenant: Tenant, jobs: Jobs
) -> None:
    setup.begin(other_tenant)
    row = Template.objects.get(tenant=other_tenant, code="failed")
    number = jobs.pending()
    tried = {"subject": "x", "text": "x", "html": "", "preview": "1", "job": str(number)}

    found = errors(logged_in(charlie), words(row, "en"), tried)

    assert found == {"job": [f"No job {number} in tenant umbrella."]}


def test_the_mail_is_shown_in_a_sandbox_without_scripts(alice: User, failed: Template) -> None:
    given = {"subject": "x", "text": "x", "html": f'<p style="color: red">"a"</p>{HOSTILE}', "preview": "1"}

    answer = logged_in(alice).post(words(failed, "en"), given)

    [frame] = re.findall("<iframe[^>]*>", answer.content.decode())
    assert 'sandbox=""' in frame
    assert "&lt;p style=&quot;color: red&quot;&gt;" in frame
    assert HOSTILE not in answer.content.decode()
    policy = answer["Content-Security-Policy"]
    assert "style-src 'self' 'unsafe-inline'" in policy
    assert "script-src" not in policy
    assert "default-src 'self';" in policy + ";"
    assert "unsafe-inline" not in logged_in(alice).get(TEMPLATES)["Content-Security-Policy"]


def test_a_viewer_previews_only_the_words_in_use(vera: User, failed: Template) -> None:
    client = logged_in(vera)
    given = {"subject": "mine", "text": "mine", "html": ""}

    answer = client.post(words(failed, "en"), given | {"preview": "1"})
    assert "4711" in answer.context["rendered"].subject
    assert client.post(words(failed, "en"), given | {"save": "1"}).status_code == 403
    assert client.get(words(failed, "xx")).status_code == 404


def test_a_template_is_made_used_and_deleted(alice: User, tenant: Tenant, rule: Callable[..., Rule]) -> None:
    client = logged_in(alice)

    answer = client.post(f"{TEMPLATES}add/", {"tenant": tenant.pk, "code": "short", "event": "FAILED"})
    row = Template.objects.get(code="short")
    assert answer["Location"] == page(row)
    assert "the event&#x27;s own words until you change them" in shown(client, page(row))
    using = rule("FAILED", template=row)
    answer = client.post(act(row, "delete"), SURE, follow=True)
    assert messages_of(answer) == [f"Rule {using.pk} uses it; give the rule another template first."]
    Rule.objects.filter(pk=using.pk).update(template=None)
    answer = client.post(act(row, "delete"), SURE | {"reason": "too short"}, follow=True)

    assert messages_of(answer) == ["Template short is deleted."]
    assert client.get(page(row)).status_code == 404


# ---- Deliveries -----------------------------------------------------------------------------------------------


def test_deliveries_are_listed_by_pages_and_filtered(
    bob: User, deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery.DeliveryAdmin, "list_per_page", 2)
    rows = [deliver() for _ in range(3)]
    lost = deliver(status="FAILED", channel="webhook", address="https://x.example", job_number=5, reason="gone")
    client = logged_in(bob)

    def listed(query: str) -> list[int]:
        return [one.pk for one in client.get(f"{DELIVERIES}?{query}").context["cl"].result_list]

    assert listed("") == [lost.pk, rows[2].pk]
    assert listed(f"before={rows[2].pk}") == [rows[1].pk, rows[0].pk]
    assert listed("status=FAILED") == listed("channel=webhook") == listed("q=%235") == [lost.pk]
    assert listed("q=nonsense") == listed(f"q={'9' * 30}") == []
    assert "newest 100,000 deliveries" in shown(client, f"{DELIVERIES}?status=FAILED")
    for wrong in ("status=x", "before=x", f"before={'9' * 30}", "user__password=x"):
        assert client.get(f"{DELIVERIES}?{wrong}").status_code in (302, 400)


def test_filters_search_only_their_window(
    bob: User, deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WINDOW", 2)
    deliver(status="FAILED")
    near = deliver(status="FAILED")
    deliver()
    deliver()

    found = logged_in(bob).get(f"{DELIVERIES}?status=FAILED").context["cl"].result_list

    assert [one.pk for one in found] == [near.pk]


def test_a_member_of_several_tenants_sees_all_their_deliveries_in_one_list(
    bob: User, other_tenant: Tenant, deliver: Callable[..., Delivery]
) -> None:
    Membership.objects.create(tenant=other_tenant, user=bob, role=Role.VIEWER)
    rows = [deliver(), deliver(tenant=other_tenant), deliver()]
    client = logged_in(bob)

    def listed(query: str) -> list[int]:
        return [one.pk for one in client.get(f"{DELIVERIES}?{query}").context["cl"].result_list]

    assert listed("") == listed("status=SENT") == [one.pk for one in reversed(rows)]
    assert listed("tenant=umbrella") == [rows[1].pk]


def test_a_page_shows_all_of_a_delivery_and_escapes_what_others_wrote(
    vera: User, hook: Rule, jobs: Jobs, watched: Program, deliver: Callable[..., Delivery]
) -> None:
    number = jobs.ended(FAILURE, program=watched)
    row = deliver(
        rule=hook, job_number=number, status="FAILED", attempts=10, subject=HOSTILE, text=HOSTILE, reason="503"
    )

    told = shown(logged_in(vera), page(row))

    assert f'<a href="/admin/jobsite_programs/job/{number}/change/">job #{number}</a>' in told
    assert f'<a href="{page(hook)}">' in told
    assert told.count(ESCAPED) == 2
    assert HOSTILE not in told
    assert 'name="_save"' not in told
    assert "job #4711 (deleted)" in shown(logged_in(vera), page(deliver()))


def test_an_operator_sends_again_with_a_reason(bob: User, vera: User, deliver: Callable[..., Delivery]) -> None:
    row = deliver(status="FAILED", attempts=10, reason="503")

    assert logged_in(vera).post(act(row, "again"), SURE).status_code == 403
    client = logged_in(bob)
    assert "sent again as a new message" in client.post(act(row, "again")).content.decode()
    answer = client.post(act(row, "again"), SURE | {"reason": "their server is back"}, follow=True)

    assert messages_of(answer) == [f"Delivery {row.pk} is on its way again."]
    again = Delivery.objects.get(pk=row.pk)
    assert again.status == "PENDING"
    assert again.identity != row.identity
    entry = AuditEntry.objects.get(target_type="delivery")
    assert (entry.actor, entry.reason, entry.target) == ("bob", "their server is back", str(row.pk))
    answer = client.post(act(row, "again"), SURE, follow=True)
    assert messages_of(answer) == [f"Delivery {row.pk} waits to be sent already."]
    assert "their server is back" in shown(client, page(row).replace("change", "history"))


def test_nobody_can_add_change_or_delete_a_delivery(superuser: User, deliver: Callable[..., Delivery]) -> None:
    row, client = deliver(), logged_in(superuser)

    assert client.get(f"{DELIVERIES}add/").status_code == 403
    assert client.post(page(row), {"status": "FAILED"}).status_code == 403
    assert client.post(page(row).replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert Delivery.objects.get().status == "SENT"


def test_the_list_of_a_jobs_deliveries_is_limited(
    jobs: Jobs, alice_principal: Principal, deliver: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_page, "DELIVERIES", 2)
    job = jobs.row(jobs.pending())

    assert job_page.deliveries(alice_principal, job) is None
    rows = [deliver(job_number=job.number) for _ in range(3)]
    told = job_page.deliveries(alice_principal, job)

    assert told is not None
    assert ([one["row"].pk for one in told["rows"]], told["has_more"]) == ([rows[2].pk, rows[1].pk], True)


# ---- The inbox ------------------------------------------------------------------------------------------------


def test_the_inbox_shows_a_users_own_messages_and_the_header_counts_the_unread(
    alice: User, bob: User, inbox: Callable[..., Delivery]
) -> None:
    inbox(bob)
    inbox(bob, read_at="2026-11-02T10:00:00Z")
    inbox(alice)
    client = logged_in(bob)

    assert len(client.get(INBOX).context["rows"]) == 1
    assert len(client.get(f"{INBOX}?show=all").context["rows"]) == 2
    for address in ("/admin/", DELIVERIES):
        assert '<span class="jobsite-count">1</span>' in shown(client, address)
    elsewhere = "/admin/jobsite_programs/job/"
    assert f'<a href="{INBOX}">Inbox</a>' in shown(client, elsewhere)
    assert not [sql for sql in queries_of(client, elsewhere) if "jobsite_delivery" in sql]


def test_the_count_of_unread_messages_is_limited(
    bob: User, inbox: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_page, "COUNTED", 2)
    for _ in range(5):
        inbox(bob)

    assert '<span class="jobsite-count">2+</span>' in shown(logged_in(bob), "/admin/")


def test_a_user_marks_some_or_all_of_their_own_messages_read(
    alice: User, bob: User, other_tenant: Tenant, inbox: Callable[..., Delivery]
) -> None:
    Membership.objects.create(tenant=other_tenant, user=bob, role=Role.VIEWER)
    mine, more, theirs = inbox(bob), [inbox(bob), inbox(bob, tenant=other_tenant)], inbox(alice)
    client = logged_in(bob)

    answer = client.post(INBOX, {"message": [mine.pk, theirs.pk]}, follow=True)
    assert messages_of(answer) == ["1 message marked read."]
    assert {one["row"].pk for one in answer.context["rows"]} == {one.pk for one in more}
    assert messages_of(client.post(INBOX, {"all": ""}, follow=True)) == ["2 messages marked read."]

    assert list(Delivery.objects.filter(read_at__isnull=True)) == [theirs]
    assert messages_of(client.post(INBOX, {}, follow=True)) == ["0 messages marked read."]
    assert client.post(INBOX, {"message": ["x"]}).status_code == 404


def test_a_member_who_left_no_longer_sees_messages_of_the_tenant(bob: User, inbox: Callable[..., Delivery]) -> None:
    inbox(bob)
    Membership.objects.filter(user=bob).delete()

    assert logged_in(bob).get(INBOX).status_code == 403
    assert "jobsite-count" not in shown(logged_in(bob), "/admin/")


def test_a_superuser_has_their_own_inbox(superuser: User, bob: User, inbox: Callable[..., Delivery]) -> None:
    inbox(superuser, text=HOSTILE)
    inbox(bob)

    told = shown(logged_in(superuser), INBOX)

    assert told.count('name="message"') == 1
    assert ESCAPED in told
    assert HOSTILE not in told


def test_pages_of_the_inbox_follow_each_other(
    bob: User, inbox: Callable[..., Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_page, "SHOWN", 2)
    rows = [inbox(bob) for _ in range(3)]
    client = logged_in(bob)

    first = client.get(f"{INBOX}?show=all")
    assert f"show=all&amp;before={rows[1].pk}" in first.content.decode()
    second = client.get(f"{INBOX}?show=all&before={rows[1].pk}")
    assert [one["row"].pk for one in second.context["rows"]] == [rows[0].pk]
    assert client.get(f"{INBOX}?before=x").status_code == 404
