"""The inbox of the user who is signed in: their messages in their tenants, and how many of them are unread."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from jobsite.admin import display
from jobsite.admin.access import access_of, principal_of, user_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.filters import CHOICES_LIMIT
from jobsite.admin.keyset import BEFORE, MAX_KEY
from jobsite.notifications import operations
from jobsite.notifications.models import Delivery
from jobsite.notifications.models.delivery import Status
from jobsite.tenants.models import Tenant

PAGE = "jobsite_notifications_inbox"
SHOWN = 50
COUNTED = 99
"""At most this many unread messages are counted."""
WINDOW = 100_000
"""Read messages are searched among this many of all tenants' newest deliveries, because they have no index."""


def messages_to(request: HttpRequest) -> QuerySet[Delivery]:
    """The messages that reached the inbox of the request's user, in tenants that they see."""
    rows = Delivery.objects.filter(user=user_of(request), channel="inbox", status=Status.SENT)
    access = access_of(request)
    # The tenants are named even for those who see all: the index of unread messages begins with the tenant.
    return rows.filter(tenant__in=Tenant.objects.all() if access.is_platform else access.tenants())


def unread(request: HttpRequest) -> int:
    """How many of them are unread; COUNTED + 1 where there are more than COUNTED."""
    return len(messages_to(request).filter(read_at__isnull=True).order_by().values_list("pk")[: COUNTED + 1])


def _add_to_header(site: admin.AdminSite) -> None:
    """Link the header of every page to the inbox; the site gives a header its context.

    The overview and the pages of notifications show how many are unread; the other pages run no query for it.
    """
    known = site.each_context

    def each_context(request: HttpRequest) -> dict[str, Any]:
        context = known(request)
        if not context["has_permission"]:
            return context
        count = unread(request) if _is_counted(request) else 0
        return context | {"unread": f"{COUNTED}+" if count > COUNTED else count, "inbox": _address()}

    site.each_context = each_context  # type: ignore[method-assign]


def _is_counted(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and str(match.url_name).startswith(("index", "jobsite_notifications"))


_add_to_header(admin.site)


def _address() -> str:
    return reverse(f"admin:{PAGE}")


# ---- The page -----------------------------------------------------------------------------------------------------


def view(page: TenantScopedAdmin[Delivery], request: HttpRequest) -> HttpResponse:
    """The unread messages, or all, newest first; by POST mark some of them, or all, as read."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    if request.method == "POST":
        return _mark(page, request)
    shows_all = request.GET.get("show") == "all"
    rows = messages_to(request).select_related("tenant")
    rows = _window(rows) if shows_all else rows.filter(read_at__isnull=True)
    before = _position(request)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: SHOWN + 1])
    has_older = len(found) > SHOWN
    context = {
        **page.admin_site.each_context(request),
        "title": "Inbox",
        "opts": page.opts,
        "shows_all": shows_all,
        "shows_tenant": access_of(request).sees_several,
        "rows": [_as_shown(row) for row in found[:SHOWN]],
        "has_unread": any(row.read_at is None for row in found[:SHOWN]),
        "before": before,
        "older": found[SHOWN - 1].pk if has_older else None,
        "query": request.GET.urlencode(),
    }
    request.current_app = page.admin_site.name
    return TemplateResponse(request, "admin/jobsite/notification_inbox.html", context)


def _window(rows: QuerySet[Delivery]) -> QuerySet[Delivery]:
    oldest = Delivery.objects.order_by("-pk").values("pk")[WINDOW : WINDOW + 1]
    return rows.filter(pk__gte=Coalesce(Subquery(oldest), Value(0)))


def _position(request: HttpRequest) -> int | None:
    given = request.GET.get(BEFORE, "")
    if not given:
        return None
    return _key(given)


def _key(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= MAX_KEY):
        raise Http404("No such message.")
    return int(text[:20])


def _as_shown(row: Delivery) -> dict[str, Any]:
    job = row.job_number
    return {
        "row": row,
        "when": display.moment(row.finished_at),
        "job": reverse("admin:jobsite_programs_job_change", args=[job]) if job is not None else "",
        "page": reverse("admin:jobsite_notifications_delivery_change", args=[row.pk]),
    }


def _mark(page: TenantScopedAdmin[Delivery], request: HttpRequest) -> HttpResponse:
    """Mark the messages that were chosen, or all; messages of other users stay as they are."""
    keys = [_key(one) for one in request.POST.getlist("message")]
    if len(keys) > SHOWN:
        raise SuspiciousOperation(f"at most {SHOWN} messages are shown")
    rows = messages_to(request).filter(read_at__isnull=True)
    if "all" not in request.POST:
        rows = rows.filter(pk__in=keys)
    tenants = Tenant.objects.filter(pk__in=rows.order_by().values("tenant"))
    chosen = None if "all" in request.POST else keys
    count = sum(operations.mark_read(principal_of(request, one), chosen) for one in tenants[:CHOICES_LIMIT])
    page.message_user(
        request,
        f"{count} message{'' if count == 1 else 's'} marked read.",
        messages.SUCCESS if count else messages.INFO,
    )
    query = request.POST.get("query", "")
    return HttpResponseRedirect(_address() + (f"?{query}" if query else ""))
