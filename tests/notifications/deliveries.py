"""Which deliveries there are."""

from typing import Any

from jobsite.notifications.models import Delivery


def deliveries_made(**filters: Any) -> list[tuple[str, str]]:
    """The deliveries in order: the event and the recipient."""
    rows = Delivery.objects.filter(**filters).select_related("user").order_by("pk")
    return [(row.event, row.user.get_username() if row.user else row.address) for row in rows]
