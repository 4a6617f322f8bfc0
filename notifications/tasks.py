"""The Celery task that carries the id of a delivery; published by name, imported by nobody."""

from celery import shared_task

from jobsite.notifications import delivery
from jobsite.notifications.hints import EARLIER_TASK, TASK


@shared_task(name=TASK, ignore_result=True, acks_late=False)
def deliver(delivery_id: int) -> None:
    """Send this delivery, if it waits to be sent."""
    delivery.deliver(delivery_id)


@shared_task(name=EARLIER_TASK, ignore_result=True, acks_late=False)
def deliver_of_an_earlier_message(delivery_id: int) -> None:
    """`deliver` under its earlier name."""
    delivery.deliver(delivery_id)
