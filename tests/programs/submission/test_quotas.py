"""The quotas for submissions: what does not fit is refused whole, says when to try again, and leaves nothing behind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from jobsite.errors import Invalid, TooMany
from jobsite.programs import workers
from jobsite.programs.models import Job, TenantUsage
from jobsite.programs.submission import submit, submit_many
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.upkeep import sweeps
from jobsite.tenants.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def limited(tenant, define):
    """The tenant, with these quotas."""
    define()

    def make(**quotas):
        Tenant.objects.filter(pk=tenant.pk).update(**quotas)
        return Tenant.objects.get(pk=tenant.pk)

    return make


def one(tenant):
    return submit(tenant=tenant, program="sample", hold=True).number


def many(tenant, count):
    return submit_many(tenant=tenant, jobs=[{"program": "sample", "hold": True}] * count)


def end(tenant, *numbers):
    with connection.cursor() as cursor:
        for number in numbers:
            assert cancel(cursor, number=number, tenant_id=tenant.pk, by="test", reason="")


def age(tenant, **moments):
    """Do as if so many seconds had passed."""
    now = datetime.now(UTC)
    TenantUsage.objects.filter(tenant=tenant).update(
        **{name: now - timedelta(seconds=seconds) for name, seconds in moments.items()}
    )


def test_a_tenant_without_quotas_pays_nothing(limited):
    one(limited())

    assert not TenantUsage.objects.exists()


def test_pending_jobs_fit_up_to_the_quota(limited):
    tenant = limited(pending_quota=3)
    numbers = [one(tenant), *many(tenant, 2)]

    with pytest.raises(TooMany) as refusal:
        one(tenant)

    assert str(refusal.value) == "tenant acme has 3 of 3 pending jobs; submit again when some have run"
    assert (refusal.value.code, refusal.value.details) == ("pending_quota", {"retry_after": 10})
    assert list(Job.objects.order_by("number").values_list("number", flat=True)) == numbers


def test_what_has_ended_makes_room_at_once(limited):
    tenant = limited(pending_quota=2)
    end(tenant, *many(tenant, 2))
    age(tenant, counted_at=2)

    assert len(many(tenant, 2)) == 2


def test_a_refused_submission_counts_again_at_most_once_a_second(limited):
    tenant = limited(pending_quota=1)
    end(tenant, one(tenant))

    with pytest.raises(TooMany):
        one(tenant)  # counted a moment ago

    age(tenant, counted_at=2)
    one(tenant)


def test_the_sweep_counts_again(limited, broker):
    tenant = limited(pending_quota=5)
    end(tenant, *many(tenant, 5))
    age(tenant, counted_at=60)

    sweeps.run_all()

    assert TenantUsage.objects.get().pending == 0


def test_many_at_once_count_whole(limited):
    tenant = limited(pending_quota=4)
    many(tenant, 2)

    with pytest.raises(TooMany):
        many(tenant, 3)

    assert Job.objects.count() == 2
    assert len(many(tenant, 2)) == 2


@pytest.mark.parametrize(
    ("quota", "what"),
    [({"pending_quota": 4}, "4 pending jobs"), ({"submissions_per_minute": 4}, "4 submissions a minute")],
)
def test_many_that_can_never_fit_are_refused_for_good(limited, quota, what):
    tenant = limited(**quota)

    with pytest.raises(Invalid, match=f"5 jobs at once never fit: tenant acme has a quota of {what}") as refusal:
        many(tenant, 5)

    assert refusal.value.code == "quota_too_small"
    assert not Job.objects.exists()


def test_submissions_a_minute_fill_up_evenly(limited):
    tenant = limited(submissions_per_minute=60)
    many(tenant, 58)
    one(tenant)
    one(tenant)

    with pytest.raises(TooMany) as refusal:
        many(tenant, 30)
    seconds = refusal.value.details["retry_after"]
    age(tenant, allowed_at=seconds)

    assert 25 <= seconds <= 30
    assert str(refusal.value) == f"tenant acme may submit 60 jobs a minute; submit again in {seconds} s"
    assert len(many(tenant, 30)) == 30
    with pytest.raises(TooMany):
        many(tenant, 30)


def test_an_allowance_never_grows_beyond_a_minutes(limited):
    tenant = limited(submissions_per_minute=5)
    one(tenant)
    age(tenant, allowed_at=86_400)

    many(tenant, 5)

    with pytest.raises(TooMany):
        one(tenant)


def test_a_rate_that_is_set_later_begins_with_a_whole_minutes(limited):
    one(limited(pending_quota=100))

    many(limited(submissions_per_minute=5), 5)

    with pytest.raises(TooMany):
        one(limited())


def test_a_submission_that_is_rolled_back_holds_no_lock_and_is_forgotten_by_the_next_count(limited):
    tenant = limited(pending_quota=2)
    with transaction.atomic():
        many(tenant, 2)
        with ThreadPoolExecutor(1) as pool:  # another client is not kept waiting
            assert isinstance(pool.submit(tried, tenant).result(timeout=10), TooMany)
        transaction.set_rollback(True)
    age(tenant, counted_at=2)

    assert len(many(tenant, 2)) == 2


def tried(tenant):
    try:
        return one(tenant)
    except TooMany as refusal:
        return refusal
    finally:
        workers.drop_connection()
        connection.close()


def test_many_clients_at_once_do_not_get_more_than_the_quota(limited):
    tenant = limited(pending_quota=5)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(tried, [tenant] * 16))

    assert Job.objects.count() == 5
    assert sum(isinstance(answer, TooMany) for answer in answers) == 11


def test_a_wrong_submission_is_refused_for_what_is_wrong_and_counts_nothing(limited):
    tenant = limited(pending_quota=1)

    with pytest.raises(Invalid):
        submit(tenant=tenant, program="sample", priority=1_000)

    one(tenant)
