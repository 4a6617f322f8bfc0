"""The pages of lanes: what a tenant sees of the queues, and where it pauses them for itself."""

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, access_of
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.reason_form import ReasonForm
from jobsite.admin.row_acts import ActedAdmin, RowAct, confirmation
from jobsite.programs.admin.job_list import queue_names
from jobsite.programs.models import Lane, Queue
from jobsite.programs.operations import pausing
from jobsite.tenants.models import Tenant

PAUSE = RowAct(
    "pause",
    "Pause",
    "The tenant's jobs in this queue wait, and so do those that are submitted from now on. Running jobs go on to their "
    "end. Other tenants are not touched, and no waiting job is lost.",
    run=pausing.pause_queue,
    said="is paused; its jobs wait",
    applies=lambda lane: lane.paused_at is None,
    asks=("reason", "until"),
)
RESUME = RowAct(
    "resume",
    "Resume",
    "The tenant's waiting jobs in this queue start as soon as they are due and there is room, unless the whole queue "
    "is paused.",
    run=pausing.resume_queue,
    said="goes on",
    applies=lambda lane: lane.paused_at is not None,
)


def buttons(offered: Iterable[tuple[RowAct, str]], *, back: str) -> SafeString:
    """Acts as buttons in a table that stands inside a form of the admin; `back` says where they lead back to."""
    return format_html_join(
        " ",
        '<button type="submit" class="button jobsite-small" formaction="{}" name="back" value="{}">{}…</button>',
        ((address, back, act.label) for act, address in offered),
    )


class PauseQueueForm(ReasonForm):
    """Which queue of which tenant; it may have no lane yet, where no job has come to it."""

    field_order = ("tenant", "queue", "reason", "until")

    tenant = forms.ModelChoiceField(Tenant.objects.none(), to_field_name="code")
    queue = forms.ModelChoiceField(
        Queue.objects.filter(name__in=settings.JOBSITE_QUEUES), to_field_name="name", empty_label=None
    )

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.POST if request.method == "POST" else None, asks=("reason", "until"))
        tenants = access_of(request).tenants_to_choose(ADMIN)
        field = self.fields["tenant"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = tenants
        field.initial = tenants[0] if len(tenants[:2]) == 1 else None


@admin.register(Lane)
class LaneAdmin(ActedAdmin[Lane]):
    """Members see the lanes of their tenants, and their ADMINs pause them; only the platform pauses a whole queue."""

    row_acts = (PAUSE, RESUME)
    names_tenant = True
    page_note = (
        "A lane holds one tenant's jobs in one queue. A pause of it stops no running job and touches no other tenant."
    )
    empty_hint = (
        "No lanes yet: a tenant's first job in a queue makes one. An ADMIN can pause a queue before that, with the "
        "button above."
    )
    list_display = ("queue_name", "jobs", "paused")
    list_filter = (choice_filter("queue", "queue", queue_names, field="queue_id"), TenantFilter)
    list_select_related = ("queue", "tenant")
    search_fields = ("tenant__code",)
    search_help_text = "A tenant's code, or a part of it."
    sortable_by = ()
    ordering = ("tenant__code", "queue")
    fields = ("queue_name", "tenant", "jobs", "paused")

    @property
    def audit_kind(self) -> str:
        """As pausing writes it: to people a lane is their queue."""
        return "queue"

    def audit_target(self, obj: Model) -> str:
        """The queue's name."""
        return obj.queue.name if isinstance(obj, Lane) else str(obj)

    def named(self, row: Lane) -> str:
        """The queue's name, and whose lane it is."""
        return self.called(row)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All of them."""
        return self.fields

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """None where there is only one tenant to find."""
        return self.search_fields if access_of(request).sees_several else ()

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """With the button that fits, for those who may use it in some tenant."""
        columns = super().get_list_display(request)
        if access_of(request).may(ADMIN):
            columns.insert(-1, self._button_column(request))
        return columns

    def _button_column(self, request: HttpRequest) -> Callable[[Lane], str | SafeString]:
        @admin.display(description="act")
        def button(lane: Lane) -> str | SafeString:
            return buttons(self.offered(request, lane), back="list")

        return button

    def page_after(self, request: HttpRequest, row: Lane, act: RowAct) -> str:
        """The list, the queue's page or the lane's, wherever the button was."""
        match request.POST.get("back"):
            case "list":
                return reverse("admin:jobsite_programs_lane_changelist")
            case "queue" if access_of(request).is_platform:
                return reverse("admin:jobsite_programs_queue_change", args=[row.queue_id])
        return self.page_of(row)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With the way to pause a queue that has no lane yet."""
        may_pause = access_of(request).may(ADMIN)
        return super().changelist_view(request, {"may_pause_queue": may_pause} | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        """With the page that pauses a queue by its name."""
        view = self.admin_site.admin_view(self.pause_view)
        return [path("pause/", view, name="jobsite_programs_lane_pause"), *super().get_urls()]

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Ask which queue of which tenant, and pause it."""
        if not access_of(request).may(ADMIN):
            raise PermissionDenied
        back = reverse("admin:jobsite_programs_lane_changelist")
        form = PauseQueueForm(request)
        if form.is_bound and form.is_valid():
            given = dict(form.cleaned_data)
            tenant, queue = given.pop("tenant"), given.pop("queue")
            self.perform(request, PAUSE, Lane(queue=queue, tenant=tenant), given)
            return HttpResponseRedirect(back)
        return confirmation(self, request, PAUSE, form, title="Pause a queue", back=back)

    @admin.display(description="queue")
    def queue_name(self, lane: Lane) -> str:
        """Its name, without a link: the queue's own page is for superusers."""
        return lane.queue.name

    @admin.display(description="jobs")
    def jobs(self, lane: Lane) -> str:
        """Whether any waits for its turn."""
        return "waiting" if lane.is_waiting else "none waits"

    @admin.display(description="paused")
    def paused(self, lane: Lane) -> str | SafeString:
        """Since when, by whom, why, until when; the whole queue's pause too."""
        if lane.queue.paused_at is None:
            return display.pause(lane)
        own = format_html("{}; ", display.pause(lane)) if lane.paused_at else ""
        return format_html("{}for all tenants {}", own, display.pause(lane.queue))
