"""Names that databases and brokers store from before the packages moved into `jobsite` still work."""

import pytest
from celery import current_app

from jobsite import PermanentError, TransientError, outgoing
from jobsite.notifications import delivery
from jobsite.notifications import tasks as delivery_tasks
from jobsite.programs import execution
from jobsite.programs.actions.python import find_function
from jobsite.programs.rules.retries import is_transient, names_of
from jobsite.programs.upkeep import housekeeping
from jobsite.programs.worker import tasks as job_tasks


def test_a_stored_target_finds_its_function():
    assert find_function("programs.housekeeping:retention") is housekeeping.retention


@pytest.mark.parametrize("name", ["TransientError", "jobsite.TransientError", "programs.actions.base.TransientError"])
def test_a_program_may_name_our_errors_by_earlier_names(name):
    assert name in names_of(TransientError())
    assert not is_transient(TransientError(), permanent=[name])
    assert is_transient(PermanentError(), transient=["programs.actions.base.PermanentError"])


@pytest.mark.parametrize(
    ("error", "helps"),
    [(outgoing.OutgoingError, True), (outgoing.OutgoingTimeout, True), (outgoing.OutgoingRefused, False)],
)
def test_a_program_names_what_goes_wrong_with_a_request_by_its_public_name(error, helps):
    name = f"jobsite.outgoing.{error.__name__}"

    assert {name, "jobsite.outgoing.OutgoingError"} <= names_of(error("no answer"))
    assert is_transient(error("no answer")) is helps
    assert is_transient(error("no answer"), transient=[name])
    assert not is_transient(error("no answer"), permanent=[name])


@pytest.mark.parametrize("name", ["jobsite.run_jobs", "programs.run_jobs"])
def test_a_message_with_jobs_is_accepted_under_both_names(name, monkeypatch):
    taken = []
    monkeypatch.setattr(execution, "run", lambda numbers, *, message: taken.append(numbers))

    current_app.tasks[name].apply(args=([7],))

    assert taken == [[7]]
    assert job_tasks


@pytest.mark.parametrize("name", ["jobsite.deliver", "notifications.deliver"])
def test_a_message_with_a_delivery_is_accepted_under_both_names(name, monkeypatch):
    taken = []
    monkeypatch.setattr(delivery, "deliver", taken.append)

    current_app.tasks[name].apply(args=(7,))

    assert taken == [7]
    assert delivery_tasks
