"""Connections: when plans are made again, statements with numbered placeholders, servers that do not answer."""

from itertools import pairwise

import psycopg
import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import IntegrityError, ProgrammingError

from jobsite import database
from jobsite.database import Plans, execute, pipelined, prepared_cursor

pytestmark = pytest.mark.django_db


def test_plans_are_made_again_soon_at_first_and_then_every_ten_seconds(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(database.time, "monotonic", lambda: now)
    plans, moments = Plans(), []

    while now < 1_060:
        if plans.are_old():
            moments.append(round(now - 1_000, 1))
        now += 0.1

    pauses = [round(later - earlier, 1) for earlier, later in pairwise(moments)]
    assert moments[0] == pytest.approx(0.1, abs=0.1)
    assert pauses[:3] == pytest.approx([0.1, 0.2, 0.4], abs=0.15)
    assert pauses[-3:] == pytest.approx([10, 10, 10], abs=0.15)


@pytest.mark.parametrize(("are_old", "first"), [(True, "DISCARD PLANS"), (False, "SELECT 1")])
def test_old_plans_are_discarded_before_the_next_statement_on_djangos_connection(monkeypatch, are_old, first):
    executed, execute_really = [], psycopg.Cursor.execute
    monkeypatch.setattr(
        psycopg.Cursor,
        "execute",
        lambda self, query, *rest: (executed.append(query), execute_really(self, query, *rest)),
    )
    monkeypatch.setattr(Plans, "are_old", lambda self: are_old)

    with prepared_cursor() as cursor:
        cursor.execute("SELECT 1")

    assert executed[0] == first
    assert executed[-1] == "SELECT 1"


@pytest.mark.django_db(transaction=True)
def test_plans_are_kept_from_the_first_use_outside_a_transaction():
    connection.close()
    with pytest.raises(ZeroDivisionError), transaction.atomic(), prepared_cursor():
        raise ZeroDivisionError
    for _ in range(2):
        with prepared_cursor() as cursor:
            cursor.execute("SHOW plan_cache_mode")
            assert cursor.fetchone() == ("force_generic_plan",)
        with pytest.raises(ZeroDivisionError), transaction.atomic(), prepared_cursor():
            raise ZeroDivisionError


@pytest.fixture
def cursor():
    with prepared_cursor() as cursor:
        yield cursor


def test_a_long_statement_takes_its_values_by_name(cursor):
    row = execute(cursor, "SELECT %(a)s::int + %(b)s::int, %(a)s::int", {"b": 2, "a": 40, "unused": 1}).fetchone()

    assert row == (42, 40)


def test_a_value_that_is_missing_is_named(cursor):
    with pytest.raises(KeyError, match="a"):
        execute(cursor, "SELECT %(a)s::int", {})


def test_errors_are_those_of_django():
    with pytest.raises(ProgrammingError), transaction.atomic(), prepared_cursor() as cursor:
        execute(cursor, "SELECT nothing_like_it", {})


def test_pipelined_statements_have_their_answers_after_the_block(cursor):
    with pipelined(cursor) as new_cursor:
        cursors = [new_cursor() for _ in range(3)]
        for place, one in enumerate(cursors):
            one.execute("SELECT %s::int", [place])

    assert [one.fetchone() for one in cursors] == [(0,), (1,), (2,)]


@pytest.mark.django_db(transaction=True)
def test_an_error_in_a_pipeline_is_raised_and_leaves_the_connection_usable():
    def insert_twice():
        with transaction.atomic(), prepared_cursor() as cursor, pipelined(cursor) as new_cursor:
            new_cursor().execute("INSERT INTO jobsite_queue (name) VALUES ('twice'), ('twice')")
            new_cursor().execute("SELECT 1")

    with pytest.raises(IntegrityError):
        insert_twice()

    with prepared_cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_an_exception_between_the_statements_of_a_pipeline_is_raised_unchanged():
    def fail():
        with transaction.atomic(), prepared_cursor() as cursor, pipelined(cursor) as new_cursor:
            new_cursor().execute("SELECT 1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert connection.connection.info.pipeline_status == psycopg.pq.PipelineStatus.OFF


def test_a_server_that_does_not_answer_is_given_up_after_half_a_lock():
    options = settings.DATABASES["default"]["OPTIONS"]
    silence = options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"]

    assert silence * 1_000 == options["tcp_user_timeout"] == settings.JOBSITE_LOCK_SECONDS / 2 * 1_000
    # libpq knows all of these options.
    assert options.keys() <= connection.connection.info.get_parameters().keys() | {"application_name"}
