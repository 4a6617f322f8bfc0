"""What an action is given, and the requests to stop that reach it."""

import signal
import threading
from contextlib import suppress

import pytest
from django.contrib.auth.models import User

from jobsite.programs.context import Context, Step
from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost, Snooze
from jobsite.tenants.principals import PermissionRefused, RunningAs
from tests.programs.conftest import a_claimed, a_context


@pytest.fixture
def context() -> Context:
    return a_context()


def lines(context):
    return [(line.severity, line.message) for line in context.log._lines]


def test_an_action_knows_what_it_runs():
    claimed = a_claimed(number=42, fence=3, parameters={"student": 7})

    context = a_context(claimed)

    assert (context.job_number, context.fence, context.lock_token) == (42, 3, claimed.token)
    assert context.parameters == {"student": 7}


@pytest.mark.parametrize(("attempts", "losses", "attempt"), [(0, 0, 1), (1, 0, 2), (1, 1, 1), (4, 2, 3)])
def test_lost_runs_are_no_attempts(attempts, losses, attempt):
    assert a_context(a_claimed(attempts=attempts, losses=losses)).attempt == attempt


def test_an_action_knows_as_whom_it_runs_and_asks_for_permissions():
    bob = User(username="bob")
    context = a_context(principal=RunningAs(bob, frozenset({"auth.add_user"}), everything=False))

    assert context.user is bob
    context.require("auth.add_user")
    with pytest.raises(PermissionRefused, match=r"bob lacks the permission auth\.delete_user"):
        context.require("auth.delete_user")


def test_a_job_of_the_system_has_no_user_and_every_permission(context):
    assert context.user is None
    context.require("auth.delete_user")


@pytest.mark.django_db
def test_the_tenant_is_read_when_it_is_asked_for(tenant, django_assert_num_queries):
    context = a_context(a_claimed(tenant_id=tenant.pk))

    with django_assert_num_queries(1):
        assert context.tenant == tenant
        assert context.tenant == tenant


# ---- progress and warnings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ((3,), {"processed": 3, "total": None, "message": ""}),
        ((3, 10), {"processed": 3, "total": 10, "message": ""}),
        ((3.9, 10.0, "rows"), {"processed": 3, "total": 10, "message": "rows"}),
        ((0, 0, None), {"processed": 0, "total": 0, "message": "None"}),
        ((1, 2, "nul\x00 \ud800"), {"processed": 1, "total": 2, "message": "nul\ufffd \ufffd"}),
    ],
)
def test_progress_is_kept_storable(context, given, stored):
    context.progress(*given)

    assert context.progress_now == (1, stored)


def test_each_report_is_a_new_version(context):
    for processed in range(3):
        context.progress(processed)

    assert context.progress_now[0] == 3


def test_a_long_message_is_cut(context):
    context.progress(1, 1, "ä" * 10_000)

    _, progress = context.progress_now
    assert len(progress["message"].encode()) <= 500


def test_a_warning_is_logged_and_remembered(context):
    context.warn("%d students without marks", 3)

    assert context.has_warned
    assert lines(context) == [("WARNING", "3 students without marks")]


def test_a_logged_warning_alone_changes_no_outcome(context):
    context.log.warning("just so")

    assert not context.has_warned


# ---- requests to stop ------------------------------------------------------------------------------------


def test_nothing_stops_a_job_that_nobody_asked_to_stop(context):
    context.checkpoint()
    context.progress(1)

    assert not context.is_canceled
    assert not context.has_seen_cancel


@pytest.mark.parametrize("look", [lambda context: context.progress(1), lambda context: context.checkpoint()])
def test_a_request_to_cancel_reaches_the_next_checkpoint(context, look):
    context.request_cancel()

    with pytest.raises(JobCanceled):
        look(context)
    assert context.has_seen_cancel


def test_the_progress_of_a_report_that_was_stopped_is_kept(context):
    context.request_cancel()

    with pytest.raises(JobCanceled):
        context.progress(5)

    assert context.progress_now[1]["processed"] == 5


def test_an_action_that_looks_sees_the_request(context):
    context.request_cancel()
    assert not context.has_seen_cancel

    assert context.is_canceled
    assert context.has_seen_cancel


def test_a_lost_lock_stops_before_all_else():
    context = a_context(seconds=-1)
    context.request_cancel()
    context.lose_lock()

    with pytest.raises(LockLost):
        context.checkpoint()
    assert not context.has_seen_cancel


def test_past_its_deadline_a_checkpoint_stops_the_action():
    with pytest.raises(JobTimeout):
        a_context(seconds=-1).checkpoint()


@pytest.mark.parametrize("stop", [JobCanceled, JobTimeout, LockLost, Snooze])
def test_an_actions_own_except_exception_does_not_swallow_a_stop(stop):
    assert not issubclass(stop, Exception)


def test_a_request_from_another_thread_is_seen(context):
    thread = threading.Thread(target=context.request_cancel)
    thread.start()
    thread.join()

    assert context.is_canceled


# ---- snooze ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.5, 30, 365 * 86_400])
def test_a_snooze_leaves_the_action(context, seconds):
    with pytest.raises(Snooze) as snooze:
        context.snooze(seconds)

    assert snooze.value.seconds == seconds


@pytest.mark.parametrize("seconds", [-1, 365 * 86_400 + 1, float("nan"), float("inf")])
def test_a_snooze_is_from_now_to_a_year(context, seconds):
    with pytest.raises(ValueError, match="snooze takes 0 to"):
        context.snooze(seconds)


# ---- the alarm -------------------------------------------------------------------------------------------


def act(context, seconds, body):
    """Run `body` under the alarm of an action with a limit of `seconds`."""

    def run(context, step):
        with context.alarm():
            body()

    context.act(Step("act", "python", {}, timeout=seconds), run, is_stored=False)


def test_the_alarm_ends_an_action_that_overstays(context):
    with pytest.raises(JobTimeout):
        act(context, 0.02, signal.pause)


def test_the_deadline_of_the_job_bounds_that_of_the_action():
    with pytest.raises(JobTimeout):
        act(a_context(seconds=0.02), 60, signal.pause)


def test_the_alarm_never_rings_after_the_action(context):
    act(context, 60, lambda: None)
    ring = signal.getsignal(signal.SIGALRM)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    ring(signal.SIGALRM, None)  # a signal that was on its way is ignored


def test_an_alarm_that_was_left_on_ends_no_later_action(context):
    left = []

    def run(context, step):
        left.append(context.alarm())
        left[0].__enter__()

    context.act(Step("act", "python", {}, timeout=60), run, is_stored=False)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    signal.getsignal(signal.SIGALRM)(signal.SIGALRM, None)

    def close_it_late():
        left[0].__exit__(None, None, None)
        signal.pause()

    with pytest.raises(JobTimeout):
        act(context, 0.1, close_it_late)


@pytest.mark.parametrize("error", [None, ValueError, JobCanceled])
def test_the_alarm_rings_also_after_an_action_that_listened_itself(context, error):
    def listen():
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        if error:
            raise error

    with suppress(ValueError, JobCanceled):
        act(context, 60, listen)

    with pytest.raises(JobTimeout):
        act(context, 0.02, signal.pause)


def test_in_a_thread_there_is_no_alarm_but_the_checkpoints_look(context):
    seen = []

    def act_there():
        act(context, 0.001, lambda: seen.append(signal.getitimer(signal.ITIMER_REAL)))
        try:
            a_context(seconds=-1).checkpoint()
        except JobTimeout:
            seen.append("stopped")

    timer = signal.getitimer(signal.ITIMER_REAL)
    thread = threading.Thread(target=act_there)
    thread.start()
    thread.join()

    assert seen[1] == "stopped"
    assert seen[0][0] <= timer[0]
