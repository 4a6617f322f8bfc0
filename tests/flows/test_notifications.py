"""Notifications by real workers and a real mail server: each is sent once, even when processes die."""

import signal
from collections import Counter

import pytest
from django.test import override_settings

from jobsite.notifications import hints
from jobsite.notifications.models import Delivery
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import OPEN
from tests.flows.jobs import all_finished, finished, queued_without_message
from tests.flows.processes import until
from tests.notifications.smtp_sink import Sink, sinking

FAILS = {"code": "fails", "target": "tests.sample_actions:fail", "notification_group": "ops"}


@pytest.fixture
def mail():
    with sinking() as sink:
        yield sink


@pytest.fixture
def start(start_worker, mail: Sink):
    """Start a worker of these queues that sends its mail to the tests' own server."""

    def make(*queues: str, **options):
        return start_worker(*queues, environment={"EMAIL_URL": f"smtp://127.0.0.1:{mail.port}"}, **options)

    return make


def all_sent(count: int, seconds: float = 30) -> list[Delivery]:
    """Wait until there are `count` deliveries and none of them waits to be sent."""

    def are_sent() -> bool:
        return Delivery.objects.count() == count and not Delivery.objects.filter(status="PENDING").exists()

    until(are_sent, f"{count} deliveries are sent", seconds=seconds)
    return list(Delivery.objects.order_by("pk"))


def identities(mail: Sink) -> list[str]:
    return [str(one.message["Message-ID"]) for one in mail.mails]


def test_a_failure_is_notified_by_mail_soon_after_it_has_happened(define, submit, start, rule, mail, alice):
    rule("FAILED", to_users=[], to_submitter=True)
    define(**FAILS)
    start("default", "notifications")

    job = submit("fails", user=alice)
    ended = finished(job)
    [delivery] = all_sent(1)

    assert (ended.status, delivery.status, delivery.attempts) == ("FAILED", "SENT", 1)
    assert [one.recipients for one in mail.mails] == [["alice@example.org"]]
    # By the hint of the worker that finished the job, long before a sweep would find it.
    assert (delivery.finished_at - ended.finished_at).total_seconds() < 5


def test_a_sender_that_is_killed_before_it_has_sent_loses_no_message(define, submit, start, rule, mail):
    rule("FAILED")
    define(**FAILS)
    mail.seconds = 60.0
    jobs = start("default")
    sender = start("notifications", concurrency=1)
    finished(submit("fails"))
    until(lambda: Delivery.objects.filter(attempts=1, lock_token__isnull=False).exists(), "it is being sent")

    sender.kill()
    mail.seconds = 0.0
    start("notifications")
    [delivery] = all_sent(1)

    assert (delivery.status, delivery.attempts) == ("SENT", 2)
    assert set(identities(mail)) == {f"<msg_{delivery.identity}@localhost>"}
    assert jobs.is_running


def test_each_message_is_sent_once_though_hints_are_lost_and_doubled(define, operator, start, rule, mail):
    rule("FAILED", to_addresses=["a@example.org", "b@example.org"])
    program = define(**FAILS)
    with override_settings(JOBSITE_LOCK_SECONDS=8.0):
        jobs = queued_without_message(operator, program, {}, count=20)
    start("default")
    until(lambda: Job.objects.filter(status__in=OPEN).count() == 0, "all jobs have ended")
    waiting = list(Delivery.objects.values_list("pk", flat=True))
    assert len(waiting) == 2 * len(jobs)
    for _ in range(3):
        hints.give(waiting)
    Delivery.objects.update(hinted_at=None)  # so that the sweep gives hints for them again

    start("notifications")
    start("notifications")
    deliveries = all_sent(40)

    assert {(one.status, one.attempts) for one in deliveries} == {("SENT", 1)}
    assert Counter(identities(mail)) == {f"<msg_{one.identity}@localhost>": 1 for one in deliveries}
    all_finished(jobs)


@pytest.mark.slow
def test_a_worker_that_is_stopped_sends_what_it_has_begun(define, submit, start, rule, mail):
    rule("FAILED")
    define(**FAILS)
    mail.seconds = 2.0
    start("default")
    sender = start("notifications", concurrency=1)
    finished(submit("fails"))
    until(lambda: Delivery.objects.filter(attempts=1, lock_token__isnull=False).exists(), "it is being sent")

    sender.send(signal.SIGTERM)
    [delivery] = all_sent(1)

    assert (delivery.status, delivery.attempts, len(mail.mails)) == ("SENT", 1, 1)
