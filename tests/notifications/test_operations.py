"""What people do with notifications: permissions, errors by field, audit, and nothing of another tenant."""

import pytest

from jobsite import vault
from jobsite.errors import Conflict, Forbidden, Invalid, NotFound
from jobsite.notifications import delivery, operations, wordings
from jobsite.notifications.events import LANGUAGES, Event
from jobsite.notifications.models import Delivery, Group, Rule, Template
from jobsite.notifications.rendering import Wording
from jobsite.notifications.rules import Wanted
from jobsite.programs.inspection import facts
from jobsite.programs.operations import rotation
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role
from jobsite.tenants.setup import create as create_tenant
from tests.programs.conftest import FAILURE, refused

pytestmark = pytest.mark.django_db
TO_OPS = Wanted("FAILED", to_addresses=("ops@example.org",))
HOOK = Wanted("FAILED", channel="webhook", to_url="https://hooks.example.org/x")
WORDS = Wording("{{ program.name }} failed", "Job {{ job.number }} failed.", "")


def audited() -> list[tuple[str, str, str]]:
    return list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "target"))


@pytest.fixture
def viras_hand(tenant, vera):
    """Vera, a VIEWER."""
    return principals.of_user(vera, tenant)


@pytest.fixture
def theirs(charlie_principal):
    """The rows of Charlie's tenant: a group, a rule, a template."""
    group = operations.create_group(charlie_principal, "ops")
    made, _ = operations.create_rule(charlie_principal, "ops", TO_OPS)
    return group, made, operations.create_template(charlie_principal, "mine", "FAILED")


# ---- Groups and rules -------------------------------------------------------------------------------------------


def test_alice_makes_changes_and_deletes_and_all_of_it_is_audited(alice_principal):
    operations.create_group(alice_principal, "ops", name="Operations")
    rule, secret = operations.create_rule(alice_principal, "ops", TO_OPS)
    operations.change_rule(alice_principal, rule.pk, {"throttle_minutes": 10, "on_recovery": True})
    rule.refresh_from_db()
    assert (secret, rule.throttle_minutes, rule.on_recovery, rule.to_addresses) == ("", 10, True, ["ops@example.org"])
    operations.delete_rule(alice_principal, rule.pk)
    operations.delete_group(alice_principal, "ops")

    key = str(rule.pk)
    assert audited() == [
        ("alice", "group created", "ops"), ("alice", "rule created", key), ("alice", "rule changed", key),
        ("alice", "rule deleted", key), ("alice", "group deleted", "ops"),
    ]  # fmt: skip
    changed = AuditEntry.objects.get(action="rule changed")
    assert (changed.before["throttle_minutes"], changed.after["throttle_minutes"]) == (None, 10)
    assert not operations.rules_of(alice_principal).exists()


ACTS = {
    "create_group": lambda hand, rule: operations.create_group(hand, "more"),
    "delete_group": lambda hand, rule: operations.delete_group(hand, rule.group.code),
    "create_rule": lambda hand, rule: operations.create_rule(hand, rule.group.code, TO_OPS),
    "change_rule": lambda hand, rule: operations.change_rule(hand, rule.pk, {"throttle_minutes": 1}),
    "rotate_secret": lambda hand, rule: operations.rotate_secret(hand, rule.pk),
    "delete_rule": lambda hand, rule: operations.delete_rule(hand, rule.pk),
    "test_rule": lambda hand, rule: operations.test_rule(hand, rule.pk),
    "create_template": lambda hand, rule: operations.create_template(hand, "more", "FAILED"),
    "delete_template": lambda hand, rule: operations.delete_template(hand, "mine"),
    "save_words": lambda hand, rule: operations.save_words(hand, "mine", "en", WORDS),
    "restore_words": lambda hand, rule: operations.restore_words(hand, "mine", "en"),
}


@pytest.mark.parametrize("act", ACTS)
def test_bob_and_vera_change_nothing(alice_principal, bob_principal, viras_hand, act):
    operations.create_group(alice_principal, "ops")
    operations.create_template(alice_principal, "mine", "FAILED")
    rule, _ = operations.create_rule(alice_principal, "ops", HOOK)
    before = audited()

    for hand in (bob_principal, viras_hand):
        with pytest.raises(Forbidden, match="lacks jobs:admin"):
            ACTS[act](hand, rule)

    assert audited() == before
    assert Delivery.objects.count() == 0


@pytest.mark.parametrize("act", [name for name in ACTS if name not in ("create_group", "create_template")])
def test_charlies_groups_rules_and_templates_do_not_exist_for_alice(alice_principal, theirs, act):
    with pytest.raises(NotFound):
        ACTS[act](alice_principal, theirs[1])


def test_a_code_is_unique_only_within_its_tenant(alice_principal, theirs):
    operations.create_template(alice_principal, "mine", "FAILED")
    operations.create_group(alice_principal, "ops")

    with refused(Conflict, "code_taken"):
        operations.create_group(alice_principal, "ops")
    with refused(Conflict, "code_taken"):
        operations.create_template(alice_principal, "mine", "CANCELED")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"event": "EXPLODED"}, "event", "expected SUBMITTED"),
        ({"channel": "pigeon"}, "channel", "expected email"),
        ({"template": "none"}, "template", "there is no template 'none'"),
        ({"template": "mine"}, "template", "template mine is for COMPLETED"),
        ({"throttle_minutes": 0}, "throttle_minutes", "expected 1 to"),
        ({"in_a_row": 101}, "in_a_row", "expected 1 to 100"),
        ({"event": "CANCELED", "in_a_row": 2}, "in_a_row", "are counted in a row"),
        ({"event": "CANCELED", "on_recovery": True}, "on_recovery", "have a recovery"),
        ({"to_roles": ("BOSS",)}, "to_roles", "expected VIEWER"),
        ({"to_users": ("charlie",)}, "to_users", "'charlie' is no member of tenant acme"),
        ({"to_users": ("nobody\udcff",)}, "to_users", "is no member"),
        ({"to_addresses": ("a@example.org, b@example.org",)}, "to_addresses", ""),
        ({"to_addresses": ("a@example.org\r\nBcc: x@example.org",)}, "to_addresses", ""),
        ({"to_addresses": ()}, "to_submitter", "there is nobody to notify"),
        ({"to_url": "https://example.org"}, "to_url", "only a webhook"),
        ({"channel": "webhook", "to_url": "https://example.org"}, "channel", "a webhook goes to its URL alone"),
        ({"channel": "webhook", "to_addresses": (), "to_url": "ftp://x"}, "to_url", ""),
        ({"channel": "inbox"}, "to_addresses", "an inbox is a user's"),
    ],
)
def test_each_wrong_field_is_named_and_nothing_is_written(alice_principal, charlie, changes, field, words):
    operations.create_group(alice_principal, "ops")
    operations.create_template(alice_principal, "mine", "COMPLETED")
    wanted = Wanted(**{"event": "FAILED", "to_addresses": ("ops@example.org",)} | changes)

    with pytest.raises(Invalid) as caught:
        operations.create_rule(alice_principal, "ops", wanted)

    assert (caught.value.code, caught.value.details["errors"][0]["pointer"]) == ("invalid_rule", f"/{field}")
    assert words in str(caught.value)
    assert not Rule.objects.exists()


def test_a_rule_can_be_changed_though_a_user_of_it_has_left(alice_principal, rule, bob, alice):
    made = rule("FAILED", to_users=[bob, alice])
    Membership.objects.filter(user=bob).delete()

    changed, _ = operations.change_rule(alice_principal, made.pk, {"is_active": False})

    assert (changed.is_active, [user.username for user in changed.to_users.all()]) == (False, ["alice"])


def test_a_group_that_a_program_names_cannot_be_deleted(alice_principal, define, ops):
    define("watched", notification_group="ops")

    with pytest.raises(Conflict, match="program watched notifies this group"):
        operations.delete_group(alice_principal, "ops")
    assert Group.objects.get().deleted_at is None


def test_a_program_names_only_groups_of_its_tenant(define, theirs):
    with pytest.raises(Invalid, match="there is no notification group ops"):
        define("watched", notification_group="ops")


def test_a_secret_is_shown_once_and_stored_encrypted_and_the_previous_one_still_signs(alice_principal):
    operations.create_group(alice_principal, "ops")
    rule, first = operations.create_rule(alice_principal, "ops", HOOK)
    second = operations.rotate_secret(alice_principal, rule.pk)
    third = operations.rotate_secret(alice_principal, rule.pk)
    rule.refresh_from_db()

    assert first.startswith("whsec_")
    assert len({first, second, third}) == 3
    assert [vault.opened(one) for one in rule.secret] == [third, second]
    everything = str(list(AuditEntry.objects.values())) + str(rule.secret) + str(operations.rule_as_data(rule))
    assert not any(one in everything for one in (first, second, third))


def test_the_secrets_of_rules_get_the_newest_key(alice_principal, settings):
    operations.create_group(alice_principal, "ops")
    rule, secret = operations.create_rule(alice_principal, "ops", HOOK)
    old = settings.JOBSITE_SECRET_KEYS[0]

    settings.JOBSITE_SECRET_KEYS = ("the-newest-of-all-keys-0123456789", old)
    assert rotation.rotate_rules(login="root") == (1, [])
    assert rotation.rotate_rules(login="root") == (0, [])
    settings.JOBSITE_SECRET_KEYS = ("the-newest-of-all-keys-0123456789",)
    rule.refresh_from_db()
    assert vault.opened(rule.secret[0]) == secret
    settings.JOBSITE_SECRET_KEYS = ("somebody-elses-key-0123456789-0123",)
    assert rotation.rotate_rules(login="root") == (0, [f"acme/{rule.pk}"])


# ---- Templates --------------------------------------------------------------------------------------------------


def test_a_tenant_starts_with_a_template_for_each_event_and_a_group(db):
    tenant = create_tenant("fresh")

    assert set(Template.objects.filter(tenant=tenant).values_list("event", flat=True)) == set(Event)
    assert {rule.event for rule in Rule.objects.filter(group__tenant=tenant, group__code="default")} == {
        "FAILED", "PROGRAM_TERMINATED", "SCHEDULE_MISSED"
    }  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_default_can_be_previewed(db, language):
    hand = principals.system(create_tenant("fresh"))

    for event in Event:
        assert operations.preview(hand, event.lower(), language).subject


def test_words_are_previewed_saved_and_restored(alice_principal, tenant, jobs):
    create = Template.objects.create
    create(tenant=tenant, code="failed", event="FAILED", is_default=True)
    before = operations.preview(alice_principal, "failed", "de")
    number = jobs.ended(FAILURE)

    assert (
        operations.preview(alice_principal, "failed", "de", words=WORDS, job=number).text == f"Job {number} failed.\n"
    )
    operations.save_words(alice_principal, "failed", "de", WORDS)
    assert operations.preview(alice_principal, "failed", "de").text == "Job 4711 failed.\n"
    assert operations.restore_words(alice_principal, "failed", "de") is True
    assert operations.restore_words(alice_principal, "failed", "de") is False
    assert operations.preview(alice_principal, "failed", "de") == before
    assert [action for _, action, _ in audited()][-2:] == ["template changed", "template restored"]


def test_words_are_stored_with_plain_line_ends_and_not_at_all_if_they_are_the_events(alice_principal, tenant):
    template = operations.create_template(alice_principal, "mine", "FAILED")
    operations.save_words(alice_principal, "mine", "en", Wording("a", "b\r\nc", ""))
    assert template.translations.get().text == "b\nc"

    operations.save_words(alice_principal, "mine", "en", wordings.of_event(tenant.pk, "FAILED", "en"))
    assert not template.translations.exists()


def test_a_broken_template_is_refused_with_its_line_and_the_old_words_are_kept(alice_principal):
    operations.create_template(alice_principal, "mine", "FAILED")
    operations.save_words(alice_principal, "mine", "en", WORDS)

    with refused(Invalid, "broken_template") as caught:
        operations.save_words(alice_principal, "mine", "en", Wording("ok", "one\n{% if %}", ""))

    assert caught.value.details["errors"][0]["pointer"] == "/text"
    assert "line 2" in str(caught.value)
    assert operations.preview(alice_principal, "mine", "en").text == "Job 4711 failed.\n"


def test_a_preview_shows_nothing_of_charlies_jobs(alice_principal, jobs, other_tenant, define):
    program = define("theirs")
    program.actions.all().delete()
    program.tenant = other_tenant
    program.save()
    number = jobs.ended(FAILURE, program=program)
    operations.create_template(alice_principal, "mine", "FAILED")

    with pytest.raises(NotFound, match=f"no job {number}"):
        operations.preview(alice_principal, "mine", "en", job=number)


def test_the_template_of_an_event_and_one_in_use_cannot_be_deleted(alice_principal, tenant):
    Template.objects.create(tenant=tenant, code="failed", event="FAILED", is_default=True)
    operations.create_template(alice_principal, "mine", "FAILED")
    operations.create_group(alice_principal, "ops")
    operations.create_rule(alice_principal, "ops", Wanted("FAILED", template="mine", to_submitter=True))

    with refused(Conflict, "default_template"):
        operations.delete_template(alice_principal, "failed")
    with refused(Conflict, "template_in_use"):
        operations.delete_template(alice_principal, "mine")


# ---- Deliveries and the inbox -----------------------------------------------------------------------------------


@pytest.fixture
def sent(rule, define, ops, jobs, bob):
    """A message in Bob's inbox."""
    rule("FAILED", channel="inbox", to_users=[bob])
    jobs.ended(FAILURE, program=define("watched", notification_group="ops"))
    [row] = Delivery.objects.all()
    assert delivery.deliver(row.pk) == "SENT"
    return row


def test_bob_sends_an_ended_delivery_again_as_a_new_message(sent, bob_principal, viras_hand):
    with pytest.raises(Forbidden, match="jobs:write"):
        operations.send_again(viras_hand, sent.pk)
    operations.send_again(bob_principal, sent.pk, reason="it was lost")
    with refused(Conflict, "still_pending"):
        operations.send_again(bob_principal, sent.pk)

    before = sent.identity
    assert delivery.deliver(sent.pk) == "SENT"
    sent.refresh_from_db()
    assert sent.identity != before
    assert audited()[-1] == ("bob", "delivery sent again", str(sent.pk))


def test_charlie_cannot_see_or_send_deliveries_of_acme(sent, charlie_principal):
    assert not operations.deliveries_of(charlie_principal).exists()
    with pytest.raises(NotFound):
        operations.find_delivery(charlie_principal, sent.pk)
    with pytest.raises(NotFound):
        operations.send_again(charlie_principal, sent.pk)


def test_an_inbox_belongs_to_its_owner_alone(sent, bob_principal, alice_principal, operator):
    assert [operations.unread(hand) for hand in (bob_principal, alice_principal, operator)] == [1, 0, 0]
    assert operations.mark_read(alice_principal, [sent.pk]) == 0
    assert operations.mark_read(bob_principal) == 1
    assert (operations.unread(bob_principal), operations.inbox_of(bob_principal).count()) == (0, 1)


def test_a_test_of_a_rule_sends_sample_data_to_its_own_recipients_only(rule, alice_principal, bob, alice):
    made = rule("FAILED", channel="inbox", to_users=[bob], in_a_row=3, throttle_minutes=10)
    rule("FAILED", channel="inbox", to_users=[alice])

    for _ in range(2):
        [row] = operations.test_rule(alice_principal, made.pk)
        assert delivery.deliver(row.pk) == "SENT"
        row.refresh_from_db()
        assert (row.user, row.job_number) == (bob, None)
        assert "4711" in row.subject


def test_a_test_of_a_rule_that_reaches_nobody_is_refused(rule, alice_principal):
    empty = rule("FAILED", to_roles=[Role.VIEWER])
    off = rule("FAILED", is_active=False)

    with refused(Conflict, "nobody_to_tell"):
        operations.test_rule(alice_principal, empty.pk)
    with refused(Conflict, "rule_off"):
        operations.test_rule(alice_principal, off.pk)


# ---- Facts ------------------------------------------------------------------------------------------------------


def test_the_facts_link_to_the_public_address_of_the_installation(jobs, tenant, settings):
    number = jobs.ended(FAILURE)

    def url() -> str:
        told = facts.facts(
            tenant=tenant, job_number=number, program_id=None, schedule_id=None, language="en", details={}
        )
        assert told is not None
        return told["job"]["url"]

    settings.CSRF_TRUSTED_ORIGINS = []
    assert url() == ""
    settings.CSRF_TRUSTED_ORIGINS = ["https://jobs.example.org"]
    assert url() == f"https://jobs.example.org/admin/jobsite_programs/job/{number}/change/"


def test_there_are_no_facts_of_a_job_that_is_gone_or_of_another_tenant(jobs, other_tenant):
    number = jobs.ended(FAILURE)

    for tenant, job in ((other_tenant, number), (jobs.program.tenant, number + 1)):
        assert facts.facts(
            tenant=tenant, job_number=job, program_id=None, schedule_id=None, language="en", details={}
        ) is None  # fmt: skip


def test_a_member_may_have_their_own_language(tenant, bob):
    Membership.objects.filter(user=bob).update(language="de-AT")

    assert principals.of_user(bob, tenant).language == "de-AT"
