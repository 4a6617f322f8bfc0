"""The Celery task that carries the id of a delivery; published by name, imported by nobody."""

from celery import shared_task

from notifications import delivery
from notifications.hints import TASK


@shared_task(name=TASK, ignore_result=True, acks_late=False)
def deliver(delivery_id: int) -> None:
    """Send this delivery, if it waits to be sent."""
    delivery.deliver(delivery_id)
