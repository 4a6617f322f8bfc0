"""The Celery task that carries job numbers; published by name, imported by nobody."""

from typing import Any
from uuid import UUID

from celery import shared_task

from jobsite.programs import execution
from jobsite.programs.dispatch import EARLIER_TASK, TASK


@shared_task(name=TASK, bind=True, ignore_result=True, acks_late=False)
def run_jobs(self: Any, numbers: list[int]) -> int:
    """Run those of these jobs that this worker can claim; returns how many it claimed."""
    return execution.run(numbers, message=UUID(self.request.id))


@shared_task(name=EARLIER_TASK, bind=True, ignore_result=True, acks_late=False)
def run_jobs_of_an_earlier_message(self: Any, numbers: list[int]) -> int:
    """`run_jobs` under its earlier name."""
    return execution.run(numbers, message=UUID(self.request.id))
