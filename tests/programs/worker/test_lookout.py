"""The web process notices late schedules when beat and all workers are dead."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from jobsite.programs import schedules
from jobsite.programs.models import Program, Schedule
from jobsite.programs.schedules import Wanted
from jobsite.programs.worker import lookout
from jobsite.tenants.models import AuditEntry
from jobsite.tenants.principals import Principal
from tests.programs.conftest import until

WATCHES = """
import threading
from jobsite import asgi
print([thread.name for thread in threading.enumerate() if thread.daemon])
"""


@pytest.mark.django_db(transaction=True)
def test_a_late_schedule_is_noticed_though_nothing_fires_it(
    define: Callable[..., Program], operator: Principal
) -> None:
    define()
    row = schedules.create(operator, "tick", Wanted("sample", minute="*"))
    past = timezone.now() - timedelta(minutes=5)
    Schedule.objects.filter(pk=row.pk).update(next_at=past, due_at=past)

    is_over = lookout.start(seconds=0.02)
    try:
        until(lambda: Schedule.objects.get().late_at is not None)
    finally:
        is_over.set()

    assert list(AuditEntry.objects.filter(target="tick", actor="system").values_list("action")) == [
        ("schedule missed",)
    ]
    assert Schedule.objects.get().next_at == past


def test_the_web_process_starts_the_lookout() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WATCHES], env=os.environ.copy(), capture_output=True, text=True, check=False
    )

    assert "jobsite-lookout" in ended.stdout, ended.stderr
