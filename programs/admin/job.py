"""The pages of jobs: the list, and one job with all that is known of it, with the way to the acts and the locks."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, WRITE, access_of
from jobsite.admin.base import BoundedPaginator, TenantScopedAdmin
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.keyset import MAX_KEY, KeysetChangeList, number_in
from jobsite.programs.admin import acts_on_all, acts_on_chosen, job_display, job_page, locks
from jobsite.programs.admin.acts import ACTS
from jobsite.programs.admin.job_list import (
    JobChangeList,
    ProgramFilter,
    StatusFilter,
    programs_of_code,
    queue_names,
)
from jobsite.programs.models import Job
from jobsite.programs.operations import bulk
from jobsite.programs.rules.lifecycle import Outcome, Trigger


@admin.register(Job)
class JobAdmin(TenantScopedAdmin[Job]):
    """Jobs are shown, never edited: the protocol owns the rows, and only the operations change them."""

    names_tenant = True
    empty_hint = display.words("No jobs yet: submit one with `jobsite submit PROGRAM`.")
    list_display = (
        "number_shown",
        "program_shown",
        "status_shown",
        "outcome_shown",
        "queue_shown",
        "attempts_shown",
        "progress_shown",
        "submitted_by",
        "created",
        "duration",
    )
    list_filter = (
        StatusFilter,
        ProgramFilter,
        choice_filter("queue", "queue", queue_names, field="queue_id"),
        choice_filter("trigger", "trigger", [(str(one), str(one)) for one in Trigger]),
        choice_filter("outcome", "outcome", [(str(one), str(one)) for one in Outcome]),
        TenantFilter,
    )
    list_select_related = ("program", "queue", "tenant")
    search_fields = ("number",)
    search_help_text = "A job's number, or a program's code."
    sortable_by = ()
    ordering = ("-number",)
    paginator = BoundedPaginator
    actions = acts_on_chosen.ACTIONS

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        """The list that counts no rows."""
        return JobChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By number (`17`, `#17`), else by program code (`scores.recalculate`, `program:scores.recalculate`)."""
        term = search_term.strip()
        if not term:
            return queryset, False
        number = number_in(term)
        if number is not None:
            return (queryset.filter(number=number) if number <= MAX_KEY else queryset.none()), False
        keys = programs_of_code(request, term)
        return (queryset.filter(program__in=keys) if keys else queryset.none()), False

    def audit_target(self, obj: Model) -> str:
        """The bare number, as the operations write it."""
        return str(obj.pk)

    @admin.display(description="number")
    def number_shown(self, job: Job) -> str:
        """As people write it."""
        return f"#{job.number}"

    @admin.display(description="program")
    def program_shown(self, job: Job) -> str:
        """The code; the name in English is on the program's page."""
        return job.program.code

    @admin.display(description="status")
    def status_shown(self, job: Job) -> SafeString:
        """A badge, with why it waits."""
        return job_display.status(job)

    @admin.display(description="outcome")
    def outcome_shown(self, job: Job) -> str:
        """Of jobs that ended."""
        return job_display.outcome(job)

    @admin.display(description="queue")
    def queue_shown(self, job: Job) -> str:
        """The queue's name."""
        return job.queue.name

    @admin.display(description="runs")
    def attempts_shown(self, job: Job) -> str:
        """Ended attempts, with those that were lost."""
        return f"{job.attempts} ({job.losses} lost)" if job.losses else str(job.attempts)

    @admin.display(description="progress")
    def progress_shown(self, job: Job) -> str:
        """A bar."""
        return job_display.progress(job)

    @admin.display(description="by")
    def submitted_by(self, job: Job) -> str:
        """A user name, `local:NAME` or `system`."""
        return str(getattr(job, "submitted_by", ""))

    @admin.display(description="created (UTC)")
    def created(self, job: Job) -> str:
        """When it was submitted."""
        return display.minute(job.created_at)

    @admin.display(description="took")
    def duration(self, job: Job) -> str:
        """Of the last run."""
        return display.duration(job_display.run_seconds(job))

    # ---- What can be done -------------------------------------------------------------------------------------

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may hold, release, cancel, retry and acknowledge in some tenant."""
        return access_of(request).may(WRITE)

    def has_administer_permission(self, request: HttpRequest) -> bool:
        """Whether the user may expire and clear in some tenant."""
        return access_of(request).may(ADMIN)

    def get_urls(self) -> list[URLPattern]:
        """Django's, with the locks and the pages on which acts are confirmed."""
        own = [
            path("locks/", self._page(locks.view), name="jobsite_programs_job_locks"),
            path("act/<slug:name>/", self._page(acts_on_chosen.view), name="jobsite_programs_job_act"),
            path("all/<slug:name>/", self._page(acts_on_all.view), name="jobsite_programs_job_all"),
        ]
        return own + super().get_urls()

    def _page(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        return self.admin_site.admin_view(partial(view, self))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """With the acts on all that match, for those who may do them in some tenant."""
        offered = [ACTS[name] for name in bulk.ACTS if access_of(request).may(WRITE)]
        return super().changelist_view(request, {"acts_on_all": offered} | (extra_context or {}))

    # ---- One job ----------------------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """All that is known of a job. There is nothing to save."""
        job = self.get_object(request, unquote(object_id))
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": f"Job {job}",
            "opts": self.opts,
            **job_page.shown(request, job),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/jobsite/job.html", context)
