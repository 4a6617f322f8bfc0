"""The pages of queues, for superusers: the broker, who serves them, each tenant's lane, and what is paused."""

from functools import partial
from typing import Any, cast

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Func, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite import brokers
from jobsite.admin import display
from jobsite.admin.access import PLATFORM
from jobsite.admin.base import PlatformAdmin
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.programs.admin.lane import LaneAdmin, buttons
from jobsite.programs.admin.worker import LIVING
from jobsite.programs.models import Lane, Queue, Worker
from jobsite.programs.operations import pausing

LANES = 100
ACTS = (
    RowAct(
        "pause",
        "Pause for all tenants",
        "The jobs of all tenants in this queue wait, and so do those that are submitted from now on. Running jobs go "
        "on to their end, and no waiting job is lost.",
        title="Pause {row} for all tenants",
        run=partial(pausing.pause_queue, whole=True),
        said="is paused for all tenants; their jobs wait",
        applies=lambda queue: queue.paused_at is None,
        scope=PLATFORM,
        asks=("reason", "until"),
    ),
    RowAct(
        "resume",
        "Resume for all tenants",
        "Waiting jobs start as soon as they are due and there is room. Lanes that are paused themselves stay paused.",
        title="Resume {row} for all tenants",
        run=partial(pausing.resume_queue, whole=True),
        said="goes on for all tenants",
        applies=lambda queue: queue.paused_at is not None,
        scope=PLATFORM,
    ),
)


@admin.register(Queue)
class QueueAdmin(ActedAdmin[Queue], PlatformAdmin[Queue]):
    """Queues come from JOBSITE_QUEUES; here they are shown and paused, for all tenants or for one."""

    row_acts = ACTS

    page_note = "Queues are configured by JOBSITE_QUEUES, their brokers by JOBSITE_BROKER_URL and similar settings."
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
        """The tenants that use the queue: who waits, how much each was served, who is paused, and the button for it."""
        lanes = Lane.objects.filter(queue=queue).select_related("tenant")
        rows = list(lanes.order_by("-is_waiting", "served")[: LANES + 1])
        if not rows:
            return "None yet: a tenant's first job makes its lane, or its first pause (see Lanes)."
        lane_admin = cast(LaneAdmin, self.admin_site.get_model_admin(Lane))
        body = format_html_join(
            "",
            '<tr><td><a href="{}">{}</a></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
            (
                (
                    lane_admin.page_of(lane),
                    lane.tenant.code,
                    lane_admin.jobs(lane),
                    f"{lane.served:g}",
                    buttons(lane_admin.fitting(lane), back="queue"),
                    display.pause(lane),
                )
                for lane in rows[:LANES]
            ),
        )
        head = "<tr><th>Tenant</th><th>Jobs</th><th>Served</th><th>Act</th><th>Paused</th></tr>"
        more = f"The first {LANES}." if len(rows) > LANES else ""
        table = '<table class="jobsite-small-table"><thead>{}</thead><tbody>{}</tbody></table>'
        return format_html('<div class="jobsite-scroll">' + table + "</div>{}", SafeString(head), body, more)
