"""The pages of schedules: when they fire next, what became of their times, and all that is done to them."""

from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, WRITE, access_of, principal_of
from jobsite.admin.filters import TenantFilter
from jobsite.admin.row_acts import Act, ActedAdmin, RowAct, confirmation
from jobsite.errors import Refusal
from jobsite.programs import schedules
from jobsite.programs.admin import schedule_page
from jobsite.programs.admin.schedule_form import WHAT, WHEN, BackfillForm, ScheduleForm
from jobsite.programs.models import CRON_FIELDS, Firing, Job, Program, Schedule
from jobsite.programs.operations import pausing
from jobsite.programs.rules import recurrence
from jobsite.programs.schedules import backfills

DOTS = 12
CRON_HELP = (
    "By a cron line: numbers, names (mon, jan), ranges (1-5), lists (1,3,5), steps (*/5) or *. Fields left out mean *; "
    "where both days are restricted, either is enough. Or by an interval."
)
STATE = ("state", "pause", "when", "next_shown", "owner", "coming", "history")

ACTS = (
    RowAct(
        "pause",
        "Pause",
        "Each of its times is skipped, with your reason, until it is resumed. Jobs that it has submitted already still "
        "run.",
        run=pausing.pause_schedule,
        said="is paused; its times are skipped",
        applies=lambda row: row.paused_at is None,
        asks=("reason", "until"),
    ),
    RowAct(
        "resume",
        "Resume",
        "It continues with its next time; nothing fires at once.",
        run=pausing.resume_schedule,
        said="goes on",
        applies=lambda row: row.paused_at is not None,
    ),
    RowAct(
        "run",
        "Run now",
        "Its job is submitted now and runs as you; the schedule's own times stay as they are.",
        run=backfills.run,
        said="has submitted a job now, which runs as you",
        scope=WRITE,
    ),
    RowAct(
        "delete",
        "Delete",
        "It never fires again, and its code can be given to another. Jobs that it has submitted already still run, and "
        "its history is kept.",
        run=schedules.delete,
        said="is deleted",
        is_end=True,
    ),
)
BACKFILL = Act(
    "backfill",
    "Backfill",
    "Each time of a past range that has no job gets one, which runs as you.",
    title="Run times of {row} again",
)


@admin.register(Schedule)
class ScheduleAdmin(ActedAdmin[Schedule]):
    """Schedules of the tenants that the user is a member of."""

    row_acts = ACTS
    add_scope = ADMIN
    change_scope = ADMIN
    names_tenant = True
    form = ScheduleForm
    page_note = "The jobs of a schedule run as the user who saved it last."
    empty_hint = display.words(
        "No schedules yet: add one here, or with `jobsite schedules create CODE --program P --cron …`; "
        "`jobsite schedules import-periodic-tasks` takes over what django-celery-beat has."
    )
    list_display = ("code", "state", "when", "next_shown", "last", "program_shown", "owner")
    list_filter = (TenantFilter,)
    list_select_related = ("program", "tenant")
    search_fields = ("code", "program__code")
    search_help_text = "A schedule's or a program's code, or a part of it."
    ordering = ("code", "id")
    fieldsets = (
        ("State", {"fields": STATE}),
        (None, {"fields": ("tenant", "code", "program")}),
        ("When", {"fields": (CRON_FIELDS, "interval_minutes", *WHEN[6:]), "description": CRON_HELP}),
        ("What", {"fields": WHAT}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Those that are not deleted, with what became of their last times, in one query."""
        status = Job.objects.filter(number=OuterRef("job_number")).values("status")
        last = Firing.objects.filter(schedule=OuterRef("pk")).order_by("-nominal_at")
        became = last.annotate(became=Coalesce(Subquery(status), "result")).values("became")[:DOTS]
        return super().get_queryset(request).filter(deleted_at__isnull=True).annotate(became=ArraySubquery(became))

    def get_urls(self) -> list[URLPattern]:
        """With the page of a backfill."""
        view = self.admin_site.admin_view(self.backfill_view)
        return [path("<int:key>/backfill/", view, name="jobsite_programs_schedule_backfill"), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new schedule has no state yet. Those who may only look see the parameters without secrets."""
        if obj is None:
            return self.fieldsets[1:]
        if self.has_change_permission(request, obj):
            return self.fieldsets
        what = tuple("parameters_shown" if name == "parameters" else name for name in WHAT)
        return [*self.fieldsets[:-1], ("What", {"fields": what})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """The state; the tenant and code of a schedule that exists; everything, for those who may only look."""
        if obj is None:
            return []
        if not self.has_change_permission(request, obj):
            return flatten_fieldsets(self.get_fieldsets(request, obj))
        return [*STATE, "tenant", "code"]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that knows who sends it."""
        form = super().get_form(request, obj, change, **kwargs)
        return type("ScheduleForm", (form,), {"principal_in": partial(principal_of, request)})

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the programs of the tenants in which the user may add schedules."""
        if db_field.name == "program":
            tenants = access_of(request).tenants_to_choose(ADMIN)
            kwargs["queryset"] = Program.objects.filter(deleted_at__isnull=True, tenant__in=tenants).order_by("code")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        """Through the domain: permitted, audited, and never firing at once."""
        wanted, tenant = form.wanted(), obj.tenant if change else form.cleaned_data["tenant"]
        principal = principal_of(request, tenant)
        if change:
            schedules.change(principal, obj.code, {name: getattr(wanted, name) for name in ("program", *WHEN, *WHAT)})
        else:
            made = schedules.create(principal, form.cleaned_data["code"], wanted)
            obj.pk, obj.code, obj.tenant = made.pk, made.code, tenant

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With a link to the page of a backfill."""
        row, links = context.get("original"), []
        if row is not None and self._may(request, ADMIN, row):
            links = [("Backfill…", reverse("admin:jobsite_programs_schedule_backfill", args=[row.pk]))]
        return super().render_change_form(request, {"page_links": links} | context, *args, **kwargs)

    # ---- Columns ------------------------------------------------------------------------------------------------

    @admin.display(description="program", ordering="program__code")
    def program_shown(self, row: Schedule) -> str:
        """Its code."""
        return row.program.code

    @admin.display(description="when")
    def when(self, row: Schedule) -> str:
        """In words, in its zone."""
        return f"{recurrence.words(row)} ({row.time_zone})"

    @admin.display(description="next (UTC)", ordering="due_at")
    def next_shown(self, row: Schedule) -> str | SafeString:
        """When it fires next; nothing while it is paused."""
        return display.moment(None if row.paused_at is not None else row.due_at)

    @admin.display(description="last times")
    def last(self, row: Any) -> str | SafeString:
        """The last of them as dots, the newest at the right."""
        if not row.became:
            return display.NOTHING
        dots = (("{}", became.lower(), became) for became in reversed(row.became))
        return format_html_join(
            "", '<span class="jobsite-dot jobsite-{}" title="{}"></span>', ((b, c) for _, b, c in dots)
        )

    @admin.display(description="state")
    def state(self, row: Schedule) -> SafeString:
        """A badge, and what is wrong."""
        shown = display.badge(self.state_word(row))
        return format_html("{} {}", shown, row.problem) if row.problem else shown

    def state_word(self, row: Schedule) -> str:
        """What the badge says."""
        if row.paused_at is not None:
            return "PAUSED"
        if row.late_at is not None:
            return "LATE"
        if row.problem:
            return "SKIPPED"
        return "ENDED" if row.next_at is None else "ACTIVE"

    @admin.display(description="parameters")
    def parameters_shown(self, row: Schedule) -> SafeString:
        """As JSON, without their secrets."""
        return display.code_block(row.parameters)

    @admin.display(description="paused")
    def pause(self, row: Schedule) -> str | SafeString:
        """Since when, by whom, why, until when."""
        return display.pause(row)

    @admin.display(description="next times")
    def coming(self, row: Schedule) -> str | SafeString:
        """The next ten."""
        return schedule_page.coming(row)

    @admin.display(description="last times")
    def history(self, row: Schedule) -> str | SafeString:
        """What became of the last of them."""
        return schedule_page.history(row)

    # ---- Backfill -----------------------------------------------------------------------------------------------

    def backfill_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """Ask for a range, say how many times of it have no job, and once confirmed run them."""
        row = self.get_object(request, str(key))
        if not self._may(request, ADMIN, row):
            raise PermissionDenied
        form = BackfillForm(request.POST or None)
        found = None
        if form.is_bound and form.is_valid():
            given = {name: form.cleaned_data[name] for name in ("begin", "end")}
            principal = principal_of(request, row.tenant)
            try:
                found = backfills.backfill(principal, row.code, **given)
                if found.times and "confirm" in request.POST:
                    made = backfills.begin_backfill(principal, row.code, **given, reason=form.cleaned_data["reason"])
                    count = sum(one.number is not None for one in made)
                    self.message_user(
                        request, f"{count} jobs of {row.code} are submitted, {len(made) - count} skipped."
                    )
                    return HttpResponseRedirect(self.page_of(row))
            except Refusal as refusal:
                form.add_error(None, display.sentence(refusal))
        return confirmation(
            self,
            request,
            BACKFILL,
            form,
            template="admin/jobsite/backfill.html",
            title=BACKFILL.title.format(row=row.code),
            back=self.page_of(row),
            row=row,
            row_page=self.page_of(row),
            found=found,
        )
