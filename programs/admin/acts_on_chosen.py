"""Acts on chosen jobs, from the list, a job's page or the locks: what the page of an act asks, and what it does."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin.access import WRITE, access_of, principals_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.keyset import MAX_KEY
from jobsite.admin.row_acts import PROBABLY_REFUSED, Touched, confirmation
from jobsite.programs.admin import job_display
from jobsite.programs.admin.act_form import ActForm
from jobsite.programs.admin.acts import ACTS, JobAct, Report, counted, perform
from jobsite.programs.admin.job_list import Rows
from jobsite.programs.admin.locks import locks_of
from jobsite.programs.models import Job
from jobsite.programs.operations.jobs import Lock

JobPages = TenantScopedAdmin[Job]

NAMED = 50
"""At most this many jobs are named where an act is confirmed; the rest is counted."""
ACTED_ON = 1_000


def _action(act: JobAct) -> Callable[..., HttpResponse]:
    permission = "operate" if act.scope == WRITE else "administer"

    @admin.action(description=f"{act.listed or act.label}…", permissions=[permission])
    def action(page: JobPages, request: HttpRequest, queryset: Rows) -> HttpResponse:
        return ask(page, request, act)

    action.__name__ = "clear_locks" if act.name == "clear" else f"{act.name}_jobs"
    return action


ACTIONS = tuple(_action(act) for act in ACTS.values())
"""The acts as Django's list offers them for the rows that are ticked."""


def view(page: JobPages, request: HttpRequest, name: str) -> HttpResponse:
    """Confirm an act and do it. POST only: a GET (after logging in again) leads to the list."""
    act = ACTS.get(name)
    if act is None:
        raise Http404("No such act.")
    if request.method != "POST":
        return HttpResponseRedirect(reverse("admin:jobsite_programs_job_changelist"))
    return ask(page, request, act)


def ask(page: JobPages, request: HttpRequest, act: JobAct) -> HttpResponse:
    """The page that says which jobs will be changed; once confirmed, do it and report the result.

    Jobs of other tenants are ignored, as if their numbers had not been given.
    """
    if not access_of(request).may(act.scope):
        raise PermissionDenied
    numbers, tokens = _chosen(request)
    if not numbers:
        page.message_user(request, "Nothing was chosen, nothing was changed.", messages.WARNING)
        return HttpResponseRedirect(_back(request, numbers))
    rows = page.get_queryset(request).filter(pk__in=numbers).select_related("program", "queue", "tenant")
    jobs = list(rows.defer("parameters", "result", "error").order_by("number"))
    if not jobs:
        raise Http404("No such jobs.")
    single = jobs[0] if len(numbers) == 1 else None
    form = ActForm(act, request.POST if "confirm" in request.POST else None, single=single)
    if form.is_bound and form.is_valid():
        principal = principals_of(request)
        report = perform(act, jobs, form.order(tokens), lambda job: principal(job.tenant))
        if single is None or not form.refuse_parameters(report.errors):
            return _reported(page, request, report, _back(request, numbers))
    return _confirmation(page, request, act, form, jobs, numbers=numbers, tokens=tokens)


def _confirmation(
    page: JobPages,
    request: HttpRequest,
    act: JobAct,
    form: ActForm,
    jobs: Sequence[Job],
    *,
    numbers: Sequence[int],
    tokens: dict[int, UUID],
) -> HttpResponse:
    locks: dict[int, Lock] = {}
    if act.name == "clear":
        locks = locks_of(jobs, principals_of(request))
        tokens = {number: lock.token for number, lock in locks.items()} | tokens
    shows_tenant = access_of(request).sees_several
    touched = [_touched(job, act, locks.get(job.number), shows_tenant=shows_tenant) for job in jobs]
    missing = len(numbers) - len(jobs)
    return confirmation(
        page,
        request,
        act,
        form,
        title=act.title,
        back=_back(request, numbers),
        # Those that the act fits come first: they are the ones that will be changed.
        touched=sorted(touched, key=lambda one: not one.fits)[:NAMED],
        hidden=_hidden(request, jobs, tokens),
        heading=counted(len(jobs)),
        count=len(jobs),
        unnamed=max(0, len(jobs) - NAMED),
        missing=f"{missing} of the chosen jobs {'is' if missing == 1 else 'are'} not there any more."
        if missing
        else "",
        button=act.title,
        address=reverse("admin:jobsite_programs_job_act", args=[act.name]),
    )


def _hidden(request: HttpRequest, jobs: Iterable[Job], tokens: dict[int, UUID]) -> list[tuple[str, object]]:
    """What the confirmed form sends again: the jobs, the locks as they were shown, and where the act began."""
    return [
        *(("number", job.number) for job in jobs),
        *(("lock", f"{job.number}:{tokens[job.number]}") for job in jobs if job.number in tokens),
        ("back", request.POST.get("back", "")),
        ("query", _query(request)),
    ]


def _reported(page: JobPages, request: HttpRequest, report: Report, address: str) -> HttpResponse:
    page.message_user(request, report.summary, messages.WARNING if report.refused else messages.SUCCESS)
    for sentence in report.details:
        page.message_user(request, sentence, messages.WARNING)
    return HttpResponseRedirect(address)


def _chosen(request: HttpRequest) -> tuple[list[int], dict[int, UUID]]:
    """The numbers of the chosen jobs, and the lock tokens that were shown with them; invalid input is a 400."""
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


def _touched(job: Job, act: JobAct, lock: Lock | None, *, shows_tenant: bool) -> Touched:
    if act.name == "clear":
        note = "holds no lock" if lock is None else f"held by {lock.worker or 'an unknown worker'}"
        fits = lock is not None and lock.is_stale
        note += "" if fits or lock is None else ", not stale: will be left alone"
    else:
        fits = act.applies(job)
        note = "" if fits else PROBABLY_REFUSED
    return Touched(
        page=reverse("admin:jobsite_programs_job_change", args=[job.number]),
        name=f"#{job.number}",
        about=_about(job, shows_tenant=shows_tenant),
        note=note,
        fits=fits,
    )


def _about(job: Job, *, shows_tenant: bool) -> SafeString:
    tenant: Any = format_html('<span class="jobsite-quiet">{}</span>', job.tenant.code) if shows_tenant else ""
    return format_html("{} <span>{}</span> {}", job_display.status(job), job.program.code, tenant)


def _query(request: HttpRequest) -> str:
    """The filters of the list that an act began in."""
    return request.POST.get("query") or request.GET.urlencode()


def _back(request: HttpRequest, numbers: Sequence[int]) -> str:
    """Where an act began: the job's page, the locks, or the list with its filters."""
    match request.POST.get("back"):
        case "job" if numbers:
            return reverse("admin:jobsite_programs_job_change", args=[numbers[0]])
        case "locks":
            return reverse("admin:jobsite_programs_job_locks")
    query = _query(request)
    return reverse("admin:jobsite_programs_job_changelist") + (f"?{query}" if query else "")
