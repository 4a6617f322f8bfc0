"""Acts on all jobs that match the list's filters, and the pages that show how far each act has come."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import WRITE, access_of, principal_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.keyset import MAX_KEY, KeysetChangeList
from jobsite.admin.row_acts import Act, confirmation
from jobsite.errors import Refusal
from jobsite.programs.admin.act_form import ActForm
from jobsite.programs.admin.acts import ACTS, counted
from jobsite.programs.admin.job_list import JobChangeList
from jobsite.programs.models import BulkAct, Job
from jobsite.programs.operations import bulk
from jobsite.tenants.models import SYSTEM, Tenant


def view(page: TenantScopedAdmin[Job], request: HttpRequest, name: str) -> HttpResponse:
    """Say how many jobs match the filters in the address; once confirmed, begin the act on them.

    Jobs that were submitted since they were counted are left out.
    """
    if name not in bulk.ACTS:
        raise Http404("No such act.")
    if not access_of(request).may(WRITE):
        raise PermissionDenied
    back = reverse("admin:jobsite_programs_job_changelist")
    try:
        rows = cast(JobChangeList, page.get_changelist_instance(request))
    except IncorrectLookupParameters:
        return HttpResponseRedirect(back)
    back += rows.get_query_string()
    tenant = _only_tenant(request, rows)
    if tenant is None:
        page.message_user(request, "Choose a tenant first: an act is done in one tenant.", messages.ERROR)
        return HttpResponseRedirect(back)
    principal = principal_of(request, tenant)
    form = ActForm(ACTS[name], request.POST if "confirm" in request.POST else None)
    try:
        jobs = rows.matching(request, tenant).filter(number__lte=_newest(request))
        found = bulk.match(principal, name, jobs, names_status="status" in rows.chosen())
        if form.is_bound and form.is_valid():
            given = form.cleaned_data
            words = ", ".join(f"{key} {value}" for key, value in _in_words(rows).items())
            row = bulk.begin(principal, found, reason=given["reason"], until=given.get("until"), filter=words)
            return HttpResponseRedirect(reverse("admin:jobsite_programs_bulkact_change", args=[row.pk]))
    except Refusal as refusal:
        page.message_user(request, display.sentence(refusal), messages.ERROR)
        return HttpResponseRedirect(back)
    return _confirmation(page, request, ACTS[name], form, rows, found, tenant=tenant, back=back)


def _confirmation(
    page: TenantScopedAdmin[Job],
    request: HttpRequest,
    act: Act,
    form: ActForm,
    rows: JobChangeList,
    found: bulk.Match,
    *,
    tenant: Tenant,
    back: str,
) -> HttpResponse:
    count = len(found.numbers)
    return confirmation(
        page,
        request,
        act,
        form,
        template="admin/jobsite/act_on_all.html",
        title=f"{act.label} all that match",
        back=back,
        hidden=[("newest", max(found.numbers, default=0))],
        heading=counted(count) + (f" of {tenant.code}" if access_of(request).sees_several else ""),
        count=count,
        samples=found.samples,
        filters=_in_words(rows).items(),
        is_windowed=rows.is_windowed,
        button=f"{act.label} {counted(count)}",
    )


def _only_tenant(request: HttpRequest, rows: JobChangeList) -> Tenant | None:
    """The tenant that is chosen, or the only one that the user sees."""
    tenants = Tenant.objects.all()
    access = access_of(request)
    if not access.is_platform:
        tenants = tenants.filter(pk__in=access.tenants())
    if (code := rows.chosen().get("tenant")) is not None:
        tenants = tenants.filter(code=code)
    else:
        tenants = tenants.exclude(code=SYSTEM)
    found = list(tenants[:2])
    return found[0] if len(found) == 1 else None


def _newest(request: HttpRequest) -> int:
    """The newest job of those that were counted."""
    text = request.POST.get("newest", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_KEY else MAX_KEY


def _in_words(rows: JobChangeList) -> dict[str, str]:
    """The filters that are on, as the list shows them."""
    words: dict[str, str] = {}
    for spec in rows.filter_specs:
        chosen = next((one for one in spec.choices(rows) if one["selected"]), None)
        if chosen is not None and spec.value() is not None:  # type: ignore[attr-defined]
            words[str(spec.title)] = str(chosen["display"])
    return words | ({"search": rows.query} if rows.query else {})


@admin.register(BulkAct)
class BulkActAdmin(TenantScopedAdmin[BulkAct]):
    """Acts on many jobs are begun in the list of jobs or on the command line; here they are watched and stopped."""

    names_tenant = True
    empty_hint = display.words("No acts on all jobs that match a filter yet.")
    list_display = ("act_shown", "actor", display.moments("created_at", "begun (UTC)"), "progress", "refused", "badge")
    ordering = ("-id",)
    list_select_related = ("tenant",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that counts no rows."""
        return KeysetChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkAct]:
        """Without the numbers, which may be ten thousand."""
        return super().get_queryset(request).defer("numbers")

    def audit_target(self, obj: Model) -> str:
        """The bare key, as the domain writes it."""
        return str(obj.pk)

    @admin.display(description="act")
    def act_shown(self, row: BulkAct) -> str:
        """What is done, to how many."""
        return f"{ACTS[row.act].label} {row.total:,} job{'' if row.total == 1 else 's'}"

    @admin.display(description="progress")
    def progress(self, row: BulkAct) -> SafeString:
        """A bar."""
        return display.bar(row.place, row.total)

    @admin.display(description="state")
    def badge(self, row: BulkAct) -> SafeString:
        """Whether it is under way."""
        return display.badge(row.state)

    def get_urls(self) -> list[URLPattern]:
        """With the button that stops it."""
        view = self.admin_site.admin_view(self.stop_view)
        return [path("<int:key>/stop/", view, name="jobsite_programs_bulkact_stop"), *super().get_urls()]

    def stop_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """Stop the act. POST only."""
        row = self.get_object(request, str(key))
        if request.method == "POST":
            try:
                stopped = bulk.stop(principal_of(request, row.tenant), row.pk)
                left = stopped.total - stopped.place
                self.message_user(request, f"Stopped; {left:,} of {stopped.total:,} jobs are left as they were.")
            except Refusal as refusal:
                self.message_user(request, display.sentence(refusal), messages.ERROR)
        return HttpResponseRedirect(reverse("admin:jobsite_programs_bulkact_change", args=[row.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """How far it has come, which jobs refused and why. There is nothing to save."""
        row = self.get_object(request, unquote(object_id))
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        access = access_of(request)
        is_running = row.state == BulkAct.State.RUNNING
        context = {
            **self.admin_site.each_context(request),
            "title": self.act_shown(row),
            "opts": self.opts,
            "row": row,
            "badge": display.badge(row.state),
            "progress": display.bar(row.place, row.total),
            "facts": _facts(row, shows_tenant=access.sees_several),
            "unnamed": row.refused - len(row.refusals),
            "is_running": is_running,
            "may_stop": is_running and access.may(WRITE, row.tenant_id),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/jobsite/bulk_act.html", context)


def _facts(row: BulkAct, *, shows_tenant: bool) -> list[tuple[str, Any]]:
    until = row.order.get("until")
    known = [
        ("By", row.actor),
        ("Tenant", row.tenant.code if shows_tenant else None),
        ("Door", row.door),
        ("Filter", row.filter or "all"),
        ("Reason", row.order.get("reason") or None),
        ("Hold until", format_html("<time>{}</time>", until) if until else None),
        ("Begun", display.moment(row.created_at)),
        ("Ended", display.moment(row.ended_at) if row.ended_at else None),
        ("Done", f"{row.done:,}"),
        ("Refused", f"{row.refused:,}"),
        ("Left", f"{row.total - row.place:,}"),
        ("Stopped", row.why_stopped or None),
    ]
    return [(name, value) for name, value in known if value is not None]
