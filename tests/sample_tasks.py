"""Celery tasks of a project that does not know jobsite."""

import logging
from typing import Any

from celery import current_task, shared_task
from celery.exceptions import Ignore, Reject


@shared_task
def add(x: int, y: int) -> int:
    logging.getLogger(__name__).info("adding")
    return x + y


@shared_task(bind=True, max_retries=2)
def patient(self: Any, until: int) -> list[Any]:
    if self.request.retries < until:
        raise self.retry(countdown=50, exc=ValueError(f"not yet, {self.request.retries}"))
    return [self.request.retries, current_task.name, self.request.id is not None]


@shared_task(autoretry_for=(KeyError,), retry_backoff=40, retry_jitter=False, max_retries=5)
def forgetful(key: str) -> str:
    raise KeyError(key)


@shared_task
def give_up(how: str) -> None:
    raise {"ignore": Ignore, "reject": Reject}[how]("no more of this")
