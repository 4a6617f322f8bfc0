"""The pages of jobs: the list, the job with all that is known of it, the locks, and what can be done."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, WRITE, access_of, principal_of
from jobsite.admin.base import BoundedPaginator, TenantScopedAdmin
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.keyset import MAX_KEY, KeysetChangeList, number_in
from jobsite.programs import operations
from jobsite.programs.admin import job_display, job_page
from jobsite.programs.admin.acts import ACTS, Act, ActForm, Report, perform
from jobsite.programs.admin.acts_on_all import ActsOnAll
from jobsite.programs.admin.job_list import (
    JobChangeList,
    ProgramFilter,
    Rows,
    StatusFilter,
    programs_of_code,
    queue_names,
)
from jobsite.programs.inspection import explain, queries
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import Outcome, Status, Trigger
from jobsite.tenants.models import AuditEntry, Tenant
from jobsite.tenants.principals import Principal

AUDIT_ENTRIES = 50
NAMED = 50
"""So many jobs are named where an act is confirmed; the rest is a number."""
ACTED_ON = 1_000
LOCK_TENANTS = 50


@admin.register(Job)
class JobAdmin(ActsOnAll, TenantScopedAdmin[Job]):
    """Jobs are shown, never edited: the protocol owns the rows, and steering is the only hand on them."""

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
    actions = (
        "hold_jobs",
        "release_jobs",
        "cancel_jobs",
        "retry_jobs",
        "acknowledge_jobs",
        "expire_jobs",
        "clear_locks",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        """The list that counts nothing."""
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
        """The bare number, as steering writes it."""
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
        """Whether the user may hold, release, cancel, retry and acknowledge anywhere."""
        return access_of(request).may(WRITE)

    def has_administer_permission(self, request: HttpRequest) -> bool:
        """Whether the user may expire and clear anywhere."""
        return access_of(request).may(ADMIN)

    @admin.action(description="Hold…", permissions=["operate"])
    def hold_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask why and until when, then hold the chosen jobs."""
        return self._ask(request, ACTS["hold"])

    @admin.action(description="Release…", permissions=["operate"])
    def release_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask why, then release the chosen jobs."""
        return self._ask(request, ACTS["release"])

    @admin.action(description="Cancel…", permissions=["operate"])
    def cancel_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask why, then cancel the chosen jobs."""
        return self._ask(request, ACTS["cancel"])

    @admin.action(description="Retry…", permissions=["operate"])
    def retry_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask why (and for a single job with which parameters), then retry the chosen jobs."""
        return self._ask(request, ACTS["retry"])

    @admin.action(description="Acknowledge…", permissions=["operate"])
    def acknowledge_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask for a word, then acknowledge the chosen jobs."""
        return self._ask(request, ACTS["acknowledge"])

    @admin.action(description="Expire stuck…", permissions=["administer"])
    def expire_jobs(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Ask why and what then, then expire those of the chosen jobs that are past their time."""
        return self._ask(request, ACTS["expire"])

    @admin.action(description="Clear stale locks…", permissions=["administer"])
    def clear_locks(self, request: HttpRequest, queryset: Rows) -> HttpResponse:
        """Show the locks of the chosen jobs, then clear the stale ones."""
        return self._ask(request, ACTS["clear"])

    def get_urls(self) -> list[URLPattern]:
        """Django's, with the locks and the page on which an act is confirmed."""
        own = [
            path("locks/", self.admin_site.admin_view(self.locks_view), name="jobsite_programs_job_locks"),
            path("act/<slug:name>/", self.admin_site.admin_view(self.act_view), name="jobsite_programs_job_act"),
        ]
        return own + super().get_urls()

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Confirm an act and do it. POST only: whoever comes by GET (after logging in again) finds the list."""
        act = ACTS.get(name)
        if act is None:
            raise Http404("No such act.")
        if request.method != "POST":
            return HttpResponseRedirect(reverse("admin:jobsite_programs_job_changelist"))
        return self._ask(request, act)

    def _ask(self, request: HttpRequest, act: Act) -> HttpResponse:
        """The page that says what will be touched; once confirmed, do it and say what became of it.

        Jobs of other tenants are not there, as if their numbers had never been given.
        """
        if not access_of(request).may(act.scope):
            raise PermissionDenied
        numbers, tokens = _chosen(request)
        if not numbers:
            self.message_user(request, "Nothing was chosen, nothing was changed.", messages.WARNING)
            return HttpResponseRedirect(_back(request, numbers))
        jobs = list(
            self.get_queryset(request)
            .filter(pk__in=numbers)
            .select_related("program", "queue", "tenant")
            .defer("parameters", "result", "error")
            .order_by("number")
        )
        if not jobs:
            raise Http404("No such jobs.")
        principal = _principals(request)
        single = jobs[0] if len(numbers) == 1 else None
        form = ActForm(act, request.POST if "confirm" in request.POST else None, single=single)
        if form.is_bound and form.is_valid():
            report = perform(act, jobs, form.order(tokens), lambda job: principal(job.tenant))
            if single is None or not form.refuse_parameters(report.errors):
                return self._tell(request, report, _back(request, numbers))
        locks: dict[int, operations.jobs.Lock] = {}
        if act.name == "clear":
            locks = _locks_of(jobs, principal)
            tokens = {number: lock.token for number, lock in locks.items()} | tokens
        # Those that the act fits come first: they are what will be touched.
        rows = sorted((_named(job, act, locks.get(job.number)) for job in jobs), key=lambda row: not row["fits"])
        context = {
            **self.admin_site.each_context(request),
            "title": act.title,
            "opts": self.opts,
            "act": act,
            "form": form,
            "rows": rows[:NAMED],
            "count": len(jobs),
            "unnamed": max(0, len(jobs) - NAMED),
            "missing": len(numbers) - len(jobs),
            "numbers": [job.number for job in jobs],
            "tokens": [f"{job.number}:{tokens[job.number]}" for job in jobs if job.number in tokens],
            "back": request.POST.get("back", ""),
            "query": request.POST.get("query") or request.GET.urlencode(),
            "back_url": _back(request, numbers),
            "shows_tenant": access_of(request).sees_several,
        }
        return TemplateResponse(request, "admin/jobsite/act.html", context)

    def _tell(self, request: HttpRequest, report: Report, address: str) -> HttpResponse:
        self.message_user(request, report.summary, messages.WARNING if report.refused else messages.SUCCESS)
        for sentence in report.details:
            self.message_user(request, sentence, messages.WARNING)
        return HttpResponseRedirect(address)

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
        access = access_of(request)
        steps, has_more_steps = job_page.steps(job)
        lines, earlier = job_page.log(job, request.GET.get("log_before", ""))
        principal = _principals(request)
        lock = _locks_of([job], principal).get(job.number)
        is_waiting = job.status in (Status.PENDING, Status.QUEUED, Status.WAITING)
        offered = [
            act
            for act in ACTS.values()
            if access.may(act.scope, job.tenant_id)
            and act.applies(job)
            and (act.name != "clear" or (lock is not None and lock.is_stale))
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Job {job}",
            "opts": self.opts,
            "job": job,
            "badge": job_display.status(job),
            "outcome": job_display.outcome(job),
            "progress": job_display.progress(job),
            "message": (job.progress or {}).get("message", ""),
            "facts": job_page.facts(job, shows_tenant=access.sees_several),
            "notes": job_page.notes(job, explain.why(principal(job.tenant), job.number) if is_waiting else []),
            "lock": lock,
            "lock_since": display.moment(lock.acquired_at) if lock else "",
            "lock_until": display.moment(lock.expires_at) if lock else "",
            "acts": offered,
            "parameters": display.pretty(job.parameters),
            "result": None if job.result is None else display.pretty(job.result),
            "error": job.error,
            "steps": steps,
            "has_more_steps": has_more_steps,
            "attempts": [job_page.attempt(one) for one in queries.attempts(job)],
            "lines": lines,
            "earlier": earlier,
            "is_latest_log": "log_before" not in request.GET,
            "entries": AuditEntry.objects.filter(tenant=job.tenant_id, target_type="job", target=str(job.number))[
                :AUDIT_ENTRIES
            ],
            "children": job_page.children(job),
            "deliveries": job_page.deliveries(principal(job.tenant), job),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/jobsite/job.html", context)

    # ---- Locks ------------------------------------------------------------------------------------------------

    def locks_view(self, request: HttpRequest) -> HttpResponse:
        """The running jobs of each tenant with who holds them, since when, and whether the holder is gone."""
        access = access_of(request)
        if not self.has_view_permission(request):
            raise PermissionDenied
        running = Job.objects.filter(tenant=OuterRef("pk"), status=Status.RUNNING)
        tenants = Tenant.objects.filter(Exists(running))
        if not access.is_platform:
            tenants = tenants.filter(pk__in=access.tenants())
        shown = list(tenants.order_by("code")[: LOCK_TENANTS + 1])
        principal = _principals(request)
        rows = [
            {
                "tenant": tenant,
                "lock": lock,
                "age": display.duration(lock.age_seconds),
                "since": display.moment(lock.acquired_at),
                "until": display.moment(lock.expires_at),
                "may_clear": lock.is_stale and access.may(ADMIN, tenant.pk),
            }
            for tenant in shown[:LOCK_TENANTS]
            for lock in operations.jobs.locks(principal(tenant))
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": "Locks",
            "opts": self.opts,
            "rows": rows,
            "may_clear": any(row["may_clear"] for row in rows),
            "tenants_left_out": len(shown) > LOCK_TENANTS,
            "tenant_limit": LOCK_TENANTS,
            "shows_tenant": access.sees_several,
        }
        return TemplateResponse(request, "admin/jobsite/locks.html", context)


# ---- Parts ----------------------------------------------------------------------------------------------------


def _principals(request: HttpRequest) -> Callable[[Tenant], Principal]:
    """The user in each tenant, made once for each."""
    made: dict[int, Principal] = {}

    def of(tenant: Tenant) -> Principal:
        if tenant.pk not in made:
            made[tenant.pk] = principal_of(request, tenant)
        return made[tenant.pk]

    return of


def _chosen(request: HttpRequest) -> tuple[list[int], dict[int, UUID]]:
    """The numbers of the jobs meant, and the lock tokens that were shown with them; nonsense is a 400."""
    try:
        pairs = [text.split(":", 1) for text in request.POST.getlist("lock")]
        tokens = {int(number): UUID(token) for number, token in pairs}
        given = request.POST.getlist("number") + request.POST.getlist(ACTION_CHECKBOX_NAME)
        numbers = sorted({int(text) for text in given} | tokens.keys())
    except ValueError as error:
        raise SuspiciousOperation("a job's number is a number") from error
    if len(numbers) > ACTED_ON or any(not 0 < number <= MAX_KEY for number in numbers):
        raise SuspiciousOperation(f"an act takes at most {ACTED_ON} jobs")
    return numbers, tokens


def _locks_of(jobs: Iterable[Job], principal: Callable[[Tenant], Principal]) -> dict[int, operations.jobs.Lock]:
    by_tenant: dict[Tenant, list[int]] = {}
    for job in jobs:
        if job.status == Status.RUNNING:
            by_tenant.setdefault(job.tenant, []).append(job.number)
    return {
        lock.job: lock
        for tenant, numbers in by_tenant.items()
        for lock in operations.jobs.locks(principal(tenant), numbers)
    }


def _named(job: Job, act: Act, lock: operations.jobs.Lock | None) -> dict[str, Any]:
    if act.name == "clear":
        note = "holds no lock" if lock is None else f"held by {lock.worker or 'an unknown worker'}"
        fits = lock is not None and lock.is_stale
        note += "" if fits or lock is None else ", not stale: will be left alone"
    else:
        fits = act.applies(job)
        note = "" if fits else "will probably be refused"
    return {"job": job, "badge": job_display.status(job), "note": note, "fits": fits}


def _back(request: HttpRequest, numbers: Sequence[int]) -> str:
    """Where an act began: the job's page, the locks, or the list with its filters."""
    match request.POST.get("back"):
        case "job" if numbers:
            return reverse("admin:jobsite_programs_job_change", args=[numbers[0]])
        case "locks":
            return reverse("admin:jobsite_programs_job_locks")
    query = request.POST.get("query") or request.GET.urlencode()
    return reverse("admin:jobsite_programs_job_changelist") + (f"?{query}" if query else "")
