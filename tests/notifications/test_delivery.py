"""One delivery: claimed by one sender, sent with the right words to the right address, recorded, retried."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook

from jobsite import vault
from jobsite.notifications import delivery, hints, rules, setup
from jobsite.notifications.models import Delivery, Template, Translation
from jobsite.programs import submission
from jobsite.programs.models import Job, Program
from jobsite.programs.rules.lifecycle import FailureKind
from jobsite.programs.submission import Options
from jobsite.programs.transitions.finish import Ending, finish
from jobsite.programs.upkeep import installation, system_programs
from jobsite.tenants import principals
from jobsite.tenants.models import Membership
from tests.notifications.deliveries import deliveries_made
from tests.notifications.smtp_sink import Sink
from tests.programs.conftest import DEAD_BROKER, FAILURE, SUCCESS, Broker, Jobs, held
from tests.receiver import receiving

pytestmark = pytest.mark.django_db
BOMB = "{% for i in (1..9999) %}{% for j in (1..9999) %}x{% endfor %}{% endfor %}"


@pytest.fixture
def jobs(db: None, define: Any) -> Iterator[Jobs]:
    with connection.cursor() as cursor:
        yield Jobs(cursor, define)


@pytest.fixture
def happen(jobs, watched, tenant):
    """End a job of the watched program, submitted by this user, and send its deliveries; returns their rows."""

    def make(ending: Ending = FAILURE, *, user: Any = None, parameters: dict[str, Any] | None = None) -> list[Delivery]:
        hand = principals.of_user(user, tenant) if user else principals.system(tenant)
        job = submission.submit_as(hand, watched.code, parameters or {})
        jobs.queue(job.number)
        finish(jobs.cursor, held(jobs.claim(job.number)), ending)
        rows = list(Delivery.objects.filter(job_number=job.number).order_by("pk"))
        for row in rows:
            delivery.deliver(row.pk)
            row.refresh_from_db()
        return rows

    return make


def fail(message: str) -> Ending:
    error = {"type": "ValueError", "message": message, "step": None}
    return Ending.failed(FailureKind.PERMANENT, error)


def make_due(row: Delivery) -> None:
    Delivery.objects.filter(pk=row.pk).update(due_at=Now())


# ---- Sent -------------------------------------------------------------------------------------------------------


def test_a_failure_reaches_the_submitter_with_all_that_they_need(mail: Sink, rule, happen, alice):
    rule("FAILED", to_users=[], to_submitter=True)

    [row] = happen(fail("no such season"), user=alice)

    assert (row.status, row.attempts, row.user) == ("SENT", 1, alice)
    [sent] = mail.mails
    assert sent.recipients == ["alice@example.org"]
    assert str(row.job_number) in sent.message["Subject"]
    assert "no such season" in sent.message.get_body(("plain",)).get_content()
    assert row.subject == sent.message["Subject"]
    assert "no such season" in row.text
    assert str(row.identity) in sent.message["Message-ID"]


@pytest.mark.parametrize(
    ("own", "tenants", "language"),
    [("de-AT", "fr", "de"), ("", "fr", "fr"), ("pt", "es-MX", "es"), ("", "pt", "en"), ("es", "en", "es")],
)
def test_the_language_is_the_recipients_else_the_tenants_else_english(
    mail: Sink, rule, happen, bob, tenant, own, tenants, language
):
    Membership.objects.filter(user=bob).update(language=own)
    tenant.language = tenants
    tenant.save()
    rule("FAILED", to_users=[bob])

    [row] = happen()

    assert (row.language, mail.mails[0].message["Content-Language"]) == (language, language)


def test_secrets_stay_masked(mail: Sink, rule, happen, define, ops):
    schema = {"type": "object", "properties": {"token": {"type": "string", "writeOnly": True}}}
    define("watched", notification_group="ops", parameters=schema)
    template = Template.objects.create(tenant=ops.tenant, code="all", event="FAILED")
    Translation.objects.create(
        tenant=ops.tenant, template=template, language="en", subject="s", text="{{ parameters | json }}"
    )
    rule("FAILED", template=template)

    [row] = happen(parameters={"token": "CANARY-17"})

    assert (row.status, row.text.strip()) == ("SENT", '{"token": "••••"}')
    assert b"CANARY" not in mail.mails[0].content


def test_a_tenants_own_words_are_used_only_for_their_language(mail: Sink, rule, happen, tenant, bob):
    setup.begin(tenant)
    template = Template.objects.get(event="FAILED", is_default=True)
    Translation.objects.create(tenant=tenant, template=template, language="de", subject="Aua", text="Schon wieder.")
    rule("FAILED", to_users=[bob])

    assert happen()[0].subject != "Aua"
    Membership.objects.filter(user=bob).update(language="de")
    assert happen()[0].subject == "Aua"


# ---- Not sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "deactivated"])
def test_a_user_who_has_left_meanwhile_gets_nothing(mail: Sink, rule, happen, jobs, watched, bob, how):
    rule("FAILED", to_users=[bob])
    jobs.ended(FAILURE, program=watched)
    if how == "left":
        Membership.objects.filter(user=bob).delete()
    else:
        bob.is_active = False
        bob.save()

    row = Delivery.objects.get()
    assert delivery.deliver(row.pk) == "SUPPRESSED"

    row.refresh_from_db()
    assert row.reason == "bob is no active member of tenant acme any more"
    assert mail.mails == []


@pytest.mark.parametrize(
    ("change", "words"), [({"is_active": False}, "off"), ({"deleted_at": timezone.now()}, "delet")]
)
def test_a_waiting_delivery_is_not_sent_after_its_rule_is_switched_off_or_deleted(
    mail: Sink, rule, jobs, watched, change, words
):
    made = rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    type(made).objects.update(**change)

    row = Delivery.objects.get()
    assert delivery.deliver(row.pk) == "SUPPRESSED"
    row.refresh_from_db()
    assert words in row.reason
    assert mail.mails == []


def test_a_template_bomb_ends_as_a_failed_delivery_and_the_next_one_is_sent(mail: Sink, rule, happen, ops):
    template = Template.objects.create(tenant=ops.tenant, code="bomb", event="FAILED")
    Translation.objects.create(tenant=ops.tenant, template=template, language="en", subject="s", text=BOMB)
    rule("FAILED", template=template)
    rule("FAILED", to_addresses=["other@example.org"])

    began = time.monotonic()
    bombed, other = happen()

    assert time.monotonic() - began < 2 + 1  # the bomb's limit, and time for the other delivery
    assert (bombed.status, bombed.attempts) == ("FAILED", 1)
    assert bombed.reason.startswith("the template cannot be filled in: text, line 1:")
    assert other.status == "SENT"
    assert Job.objects.get().status == "FAILED"  # as its ending says, and with the same error
    assert (Job.objects.get().error or {}).get("type") == (FAILURE.error or {}).get("type")


def test_a_user_without_an_address_is_named(mail: Sink, rule, happen, bob):
    bob.email = ""
    bob.save()
    rule("FAILED", to_users=[bob])

    [row] = happen()
    assert (row.status, row.reason) == ("FAILED", "bob has no e-mail address")


# ---- Retried ----------------------------------------------------------------------------------------------------


def test_a_delivery_is_retried_with_the_same_message_id_if_the_mail_server_is_busy(mail: Sink, rule, happen):
    rule("FAILED")
    mail.answers["DATA"] = "451 busy"

    [row] = happen()
    assert (row.status, row.attempts) == ("PENDING", 1)
    assert "busy" in row.reason
    assert row.due_at > timezone.now() + timedelta(seconds=4)
    assert delivery.deliver(row.pk) is None  # a doubled message does not send it before its time
    mail.answers.clear()
    make_due(row)
    assert delivery.deliver(row.pk) == "SENT"
    assert str(row.identity) in mail.mails[0].message["Message-ID"]


def test_it_is_given_up_after_the_last_try(mail: Sink, rule, happen):
    rule("FAILED")
    mail.answers["DATA"] = "451 busy"
    [row] = happen()
    for _ in range(delivery.MAX_ATTEMPTS - 1):
        make_due(row)
        delivery.deliver(row.pk)

    row.refresh_from_db()
    assert (row.status, row.attempts) == ("FAILED", delivery.MAX_ATTEMPTS)
    assert row.reason.endswith("(10 tries)")
    assert mail.mails == []


def test_a_permanent_error_is_not_retried(mail: Sink, rule, happen):
    rule("FAILED")
    mail.answers["RCPT"] = "550 no such user"

    [row] = happen()
    assert (row.status, row.attempts) == ("FAILED", 1)


def test_a_delivery_of_a_dead_sender_is_sent_after_its_lock_expired_with_the_same_identity(
    mail: Sink, rule, jobs, watched
):
    rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    row = Delivery.objects.get()
    assert delivery._claim(row.pk, uuid4()) is not None

    assert delivery.deliver(row.pk) is None
    make_due(row)
    assert delivery.deliver(row.pk) == "SENT"
    row.refresh_from_db()
    assert row.attempts == 2
    assert str(row.identity) in mail.mails[0].message["Message-ID"]


def test_a_sender_that_has_lost_its_lock_records_nothing(mail: Sink, rule, jobs, watched):
    rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    token = uuid4()
    stale = delivery._claim(Delivery.objects.get().pk, token)
    assert stale is not None
    make_due(stale)
    assert delivery.deliver(stale.pk) == "SENT"

    assert delivery._record(stale, token, status=delivery.Status.FAILED, reason="late") is None
    assert Delivery.objects.get().status == "SENT"


@pytest.mark.django_db(transaction=True)
def test_of_many_senders_at_once_only_one_sends(mail: Sink, rule, jobs, watched):
    rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    key = Delivery.objects.get().pk

    def send(_: int) -> Any:
        try:
            return delivery.deliver(key)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(send, range(6)))

    assert sorted(map(str, said)) == ["None"] * 5 + ["SENT"]
    assert len(mail.mails) == 1


def test_any_exception_is_recorded_and_counted_as_an_attempt(mail: Sink, rule, happen, settings):
    rule("FAILED")
    settings.DEFAULT_FROM_EMAIL = "<>"  # Django's mail cannot parse it

    [row] = happen()

    assert (row.status, row.attempts, row.lock_token) == ("PENDING", 1, None)
    assert row.reason
    assert row.due_at > timezone.now() + timedelta(seconds=4)


def test_a_delivery_that_kills_every_sender_is_given_up(rule, jobs, watched):
    rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    row = Delivery.objects.get()
    for _ in range(delivery.MAX_ATTEMPTS):
        assert delivery._claim(row.pk, uuid4()) is not None
        make_due(row)

    assert delivery.deliver(row.pk) == "FAILED"
    row.refresh_from_db()
    assert row.reason == "every sender stopped before it was done (10 tries)"


def test_a_server_that_answers_slowly_is_left_before_the_lock_runs_out(mail: Sink, rule, happen, settings):
    settings.JOBSITE_LOCK_SECONDS = 2.0
    rule("FAILED")
    mail.seconds = 3.0

    began = time.monotonic()
    [row] = happen()

    assert time.monotonic() - began < 2.0
    assert (row.status, row.attempts) == ("PENDING", 1)
    assert row.reason.endswith("had not taken it after 1.4 s")


def test_a_user_whose_account_was_deleted_gets_nothing(mail: Sink, rule, jobs, watched, bob):
    rule("FAILED", to_users=[bob])
    jobs.ended(FAILURE, program=watched)
    bob.delete()

    row = Delivery.objects.get()
    assert delivery.deliver(row.pk) == "SUPPRESSED"
    row.refresh_from_db()
    assert (row.reason, row.recipient) == ("the account of its recipient was deleted", "a deleted account")


def test_a_delivery_of_a_removed_rule_is_not_sent_again(mail: Sink, rule, happen):
    made = rule("FAILED")
    [row] = happen()
    made.delete()
    Delivery.objects.update(status="PENDING", finished_at=None, rule=None, due_at=Now())

    assert delivery.deliver(row.pk) == "SUPPRESSED"
    assert len(mail.mails) == 1


# ---- Throttle ---------------------------------------------------------------------------------------------------


def test_a_throttle_sends_one_message_and_the_next_says_how_many_were_suppressed(mail: Sink, rule, happen):
    rule("FAILED", throttle_minutes=10)

    rows = [happen()[0] for _ in range(4)]
    assert [row.status for row in rows] == ["SENT", "SUPPRESSED", "SUPPRESSED", "SUPPRESSED"]
    assert rows[1].reason == "not more than one in 10 minutes; the next one says how many were left out"

    Delivery.objects.update(happened_at=timezone.now() - timedelta(minutes=11))
    [later] = happen()
    assert later.status == "SENT"
    assert "3" in later.text
    assert len(mail.mails) == 2


def test_a_failed_delivery_does_not_throttle_the_next(mail: Sink, rule, happen):
    rule("FAILED", throttle_minutes=10)
    mail.answers["RCPT"] = "550 no such user"
    assert happen()[0].status == "FAILED"
    mail.answers.clear()

    assert happen()[0].status == "SENT"


def test_the_count_of_suppressed_messages_does_not_depend_on_the_order_of_keys(mail: Sink, rule, jobs, watched):
    rule("FAILED", throttle_minutes=10)
    for _ in range(3):
        jobs.ended(FAILURE, program=watched)
    first, second, third = Delivery.objects.order_by("pk")

    assert [delivery.deliver(row.pk) for row in (third, first, second)] == ["SENT", "SUPPRESSED", "SUPPRESSED"]
    Delivery.objects.update(happened_at=timezone.now() - timedelta(minutes=11))
    jobs.ended(FAILURE, program=watched)
    last = Delivery.objects.order_by("pk").last()
    delivery.deliver(last.pk)
    last.refresh_from_db()
    assert (last.status, delivery._left_out(last)) == ("SENT", 2)


def test_a_throttle_counts_each_recipient_and_each_program_by_itself(mail: Sink, rule, happen, jobs, define):
    rule("FAILED", throttle_minutes=10, to_addresses=["a@example.org", "b@example.org"])
    happen()
    other = define("other", notification_group="ops")

    jobs.ended(FAILURE, program=other)
    for row in Delivery.objects.filter(status="PENDING"):
        delivery.deliver(row.pk)

    assert sorted(one.recipients[0] for one in mail.mails) == ["a@example.org"] * 2 + ["b@example.org"] * 2


def test_a_recovery_is_not_throttled(mail: Sink, rule, happen):
    rule("FAILED", throttle_minutes=10, on_recovery=True)

    happen()
    [recovered] = happen(SUCCESS)

    assert (recovered.event, recovered.status) == ("RECOVERED", "SENT")


# ---- Webhooks and the inbox -------------------------------------------------------------------------------------


def test_a_webhook_is_signed_with_both_secrets_while_they_rotate(rule, happen, settings):
    settings.JOBSITE_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
    old, new = rules.new_secret(), rules.new_secret()
    with receiving(lambda request: request.reply(204)) as server:
        url = f"http://127.0.0.1:{server.server_port}/hook"
        stored = rules.with_secret(rules.with_secret(None, old), new)
        rule("FAILED", channel="webhook", to_url=url, secret=stored)
        assert old not in str(stored)
        [row] = happen()

        assert (row.status, row.address) == ("SENT", url)
        [request] = server.seen
        for secret in (old, new):
            body = Webhook(secret).verify(request.body, dict(request.headers))
        assert body["type"] == "job.failed"
        assert body["data"]["job"]["number"] == row.job_number
        assert request.headers["webhook-id"] == f"msg_{row.identity}"


def test_a_webhook_whose_secret_no_key_decrypts_fails_and_says_so(rule, happen, settings):
    rule("FAILED", channel="webhook", to_url="https://example.org/", secret=[vault.sealed("whsec_x")])
    settings.JOBSITE_SECRET_KEYS = ("another-key-entirely",)

    [row] = happen()
    assert row.status == "FAILED"
    assert "JOBSITE_SECRET_KEYS" in row.reason


def test_the_inbox_holds_the_text(rule, happen, bob):
    rule("FAILED", channel="inbox", to_users=[bob])

    [row] = happen(fail("no such season"))
    assert (row.status, row.user, row.read_at) == ("SENT", bob, None)
    assert "no such season" in row.text


# ---- System jobs ------------------------------------------------------------------------------------------------


def test_operators_are_notified_of_system_jobs_if_their_address_is_set(mail: Sink, jobs, settings, db):
    with connection.cursor() as cursor:
        installation.register(cursor)
    system_programs.register()
    program = Program.objects.get(code="retention")
    for ending in (SUCCESS, FAILURE):
        jobs.ended(ending, program=program)
    settings.SYSTEM_JOBS_ALERT_EMAIL = None
    first, second = Delivery.objects.order_by("pk")
    assert delivery.deliver(first.pk) == "SUPPRESSED"
    settings.SYSTEM_JOBS_ALERT_EMAIL = "operator@example.org"
    assert delivery.deliver(second.pk) == "SENT"

    assert mail.mails[0].recipients == ["operator@example.org"]
    assert deliveries_made() == [("COMPLETED", "SYSTEM_JOBS_ALERT_EMAIL"), ("FAILED", "SYSTEM_JOBS_ALERT_EMAIL")]


# ---- Hints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def broker(servers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """The real broker, empty, and not yet marked as unreachable."""
    monkeypatch.setattr(hints, "_silent_until", 0.0)
    with redis.Redis(unix_socket_path=str(servers.redis_socket)) as client:
        found = Broker(client)
        found.forget()
        yield found
        found.forget()


def hinted(broker: Broker) -> list[int]:
    """The deliveries that the waiting messages name, the oldest first."""
    return [message["body"][0][0] for message in broker.messages("notifications")]


def test_the_sweep_finds_deliveries_without_a_message(rule, jobs, watched, broker):
    rule("FAILED")
    jobs.ended(FAILURE, program=watched)
    key = Delivery.objects.get().pk

    assert hints.sweep(jobs.cursor) == 0  # the job's end has just published a message for it
    for seconds in (21, 62, 144):  # each wait is twice as long as the one before
        begin = timezone.now() - timedelta(seconds=seconds)
        Delivery.objects.update(due_at=begin, hinted_at=begin + timedelta(seconds=(seconds - 21) / 2))
        assert [hints.sweep(jobs.cursor) for _ in range(2)] == [1, 0]
    assert hinted(broker) == [key] * 3


def test_an_unreachable_broker_is_left_alone_for_a_while(broker, monkeypatch, settings):
    good = settings.JOBSITE_BROKER_URLS
    settings.JOBSITE_BROKER_URLS = dict.fromkeys(good, DEAD_BROKER)
    hints.give([1])  # this message is lost; the sweep would find its delivery
    settings.JOBSITE_BROKER_URLS = good

    hints.give([2])
    assert hinted(broker) == []
    monkeypatch.setattr(hints, "_silent_until", 0.0)  # half a minute later
    hints.give([3])
    assert hinted(broker) == [3]


def test_notify_without_a_user_is_refused(define, operator):
    define("plain")
    with pytest.raises(Exception, match="there is nobody to notify"):
        submission.submit_as(operator, "plain", {}, Options(notify=True))
