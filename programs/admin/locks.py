"""The locks of running jobs, who holds them, and the page that lists them."""

from collections.abc import Callable, Iterable

from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from jobsite.admin import display
from jobsite.admin.access import ADMIN, access_of, principals_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.programs import operations
from jobsite.programs.models import Job
from jobsite.programs.operations.jobs import Lock
from jobsite.programs.rules.lifecycle import Status
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal

TENANTS = 50


def locks_of(jobs: Iterable[Job], principal: Callable[[Tenant], Principal]) -> dict[int, Lock]:
    """The locks of those jobs that are running, by job."""
    by_tenant: dict[Tenant, list[int]] = {}
    for job in jobs:
        if job.status == Status.RUNNING:
            by_tenant.setdefault(job.tenant, []).append(job.number)
    return {
        lock.job: lock
        for tenant, numbers in by_tenant.items()
        for lock in operations.jobs.locks(principal(tenant), numbers)
    }


def view(page: TenantScopedAdmin[Job], request: HttpRequest) -> HttpResponse:
    """The running jobs of each tenant with who holds them, since when, and whether the holder is gone."""
    access = access_of(request)
    if not page.has_view_permission(request):
        raise PermissionDenied
    running = Job.objects.filter(tenant=OuterRef("pk"), status=Status.RUNNING)
    tenants = Tenant.objects.filter(Exists(running))
    if not access.is_platform:
        tenants = tenants.filter(pk__in=access.tenants())
    shown = list(tenants.order_by("code")[: TENANTS + 1])
    principal = principals_of(request)
    rows = [
        {
            "tenant": tenant,
            "lock": lock,
            "age": display.duration(lock.age_seconds),
            "since": display.moment(lock.acquired_at),
            "until": display.moment(lock.expires_at),
            "may_clear": lock.is_stale and access.may(ADMIN, tenant.pk),
        }
        for tenant in shown[:TENANTS]
        for lock in operations.jobs.locks(principal(tenant))
    ]
    context = {
        **page.admin_site.each_context(request),
        "title": "Locks",
        "opts": page.opts,
        "rows": rows,
        "may_clear": any(row["may_clear"] for row in rows),
        "tenants_left_out": len(shown) > TENANTS,
        "tenant_limit": TENANTS,
        "shows_tenant": access.sees_several,
    }
    return TemplateResponse(request, "admin/jobsite/locks.html", context)
