"""The pages of queues, for superusers: the broker, who serves them, and each tenant's lane."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Func, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite import brokers
from programs.admin import display
from programs.admin.base import PlatformAdmin
from programs.admin.worker import LIVING
from programs.models import Lane, Queue, Worker

LANES = 100


@admin.register(Queue)
class QueueAdmin(PlatformAdmin[Queue]):
    """Queues come from JOBSITE_QUEUES; here they are looked at."""

    page_note = "Queues are configured by JOBSITE_QUEUES, their brokers by JOBSITE_BROKER_URL and its like."
    empty_hint = display.words("No queues yet: they are made by `jobsite migrate` from JOBSITE_QUEUES.")
    list_display = ("name", "broker", "workers", "paused", display.moments("created_at", "created (UTC)"))
    fields = ("name", "broker", "workers", "paused", "lanes")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Queue]:
        """With the number of living workers."""
        name = Func(OuterRef("name"), template="ARRAY[%(expressions)s]", output_field=Worker._meta.get_field("queues"))
        serving = Worker.objects.filter(status__in=LIVING, queues__contains=name).order_by()
        counted = serving.annotate(one=Value(1)).values("one").annotate(count=Count("pk")).values("count")
        return super().get_queryset(request).annotate(living_workers=Coalesce(Subquery(counted), 0))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All of them."""
        return self.fields

    @admin.display(description="broker")
    def broker(self, queue: Queue) -> str:
        """Its address without the password."""
        if queue.name not in settings.JOBSITE_QUEUES:
            return "not configured any more"
        return brokers.masked_url_of(queue.name)

    @admin.display(description="living workers")
    def workers(self, queue: Any) -> int:
        """Active and stopping ones that serve it."""
        count: int = queue.living_workers
        return count

    @admin.display(description="paused")
    def paused(self, queue: Queue) -> str | SafeString:
        """Since when, by whom, why, until when."""
        return display.pause(queue)

    @admin.display(description="lanes")
    def lanes(self, queue: Queue) -> str | SafeString:
        """The tenants that use the queue: who waits, who is paused, how much each was served."""
        rows = list(
            Lane.objects.filter(queue=queue).select_related("tenant").order_by("-is_waiting", "served")[: LANES + 1]
        )
        if not rows:
            return "None yet: a tenant's first job makes its lane."
        body = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    lane.tenant.code,
                    "waiting" if lane.is_waiting else "empty",
                    f"{lane.served:g}",
                    display.pause(lane),
                )
                for lane in rows[:LANES]
            ),
        )
        head = "<tr><th>Tenant</th><th>Jobs</th><th>Served</th><th>Paused</th></tr>"
        more = f"The first {LANES}." if len(rows) > LANES else ""
        return format_html(
            '<table class="jobsite-lanes"><thead>{}</thead><tbody>{}</tbody></table>{}', SafeString(head), body, more
        )
