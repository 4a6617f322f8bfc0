"""Pause, and let go on, from the page of what is paused: asked for once, confirmed once, done through pausing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from jobsite.admin import display
from jobsite.admin.access import ADMIN, principal_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.reason_form import ReasonForm
from jobsite.errors import Refusal
from jobsite.tenants.models import Pausable, Tenant

P = TypeVar("P", bound=Pausable)


@dataclass(frozen=True)
class PauseAct:
    """One thing that can be done to a row by a function of pausing; `applies` says whether it is offered.

    `for_whom` follows the label, where it is not the row's own tenant alone; after one that `is_end` there is no row.
    """

    name: str
    label: str
    run: Callable[..., object]
    explanation: str
    said: str
    applies: Callable[[Any], bool]
    scope: str = ADMIN
    asks_until: bool = False
    for_whom: str = ""
    is_end: bool = False


class PausableAdmin(TenantScopedAdmin[P]):
    """Buttons on a row's page that fit its status, and the page on which each is confirmed."""

    pause_acts: ClassVar[tuple[PauseAct, ...]] = ()

    def pause_target(self, row: Any) -> tuple[str, ...]:
        """What the functions of pausing call the row, beside its tenant."""
        return (self.audit_target(row),)

    def state(self, row: Any) -> str:
        """What its badge says."""
        return str(getattr(row, "status", "ACTIVE" if row.paused_at is None else "PAUSED"))

    def get_urls(self) -> list[URLPattern]:
        """With the page on which an act is confirmed."""
        view = self.admin_site.admin_view(self.act_view)
        return [path("<int:key>/act/<slug:name>/", view, name=self._act_url_name), *super().get_urls()]

    @property
    def _act_url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_act"

    def fitting(self, row: Model) -> list[tuple[PauseAct, str]]:
        """The acts that fit the row, each with its address."""
        return [
            (act, reverse(f"admin:{self._act_url_name}", args=[row.pk, act.name]))
            for act in self.pause_acts
            if act.applies(row)
        ]

    def offered(self, request: HttpRequest, row: Model) -> list[tuple[PauseAct, str]]:
        """Those that the user may do."""
        return [(act, address) for act, address in self.fitting(row) if self._may(request, act.scope, row)]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With the buttons above the form."""
        row = context.get("original")
        buttons = {"pause_acts": [] if row is None else self.offered(request, row)}
        return super().render_change_form(request, buttons | context, *args, **kwargs)

    def page_of(self, row: Model) -> str:
        """The address of the row's page."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])

    def list_page(self) -> str:
        """The address of the list."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def page_after(self, request: HttpRequest, row: Any) -> str:
        """Where an act began, and leads back to."""
        return self.page_of(row)

    def perform(
        self, request: HttpRequest, act: PauseAct, tenant: Tenant, *target: str, named: str, **given: object
    ) -> None:
        """Do it as the user in this tenant, and say what became of it."""
        try:
            act.run(principal_of(request, tenant), *target, **given)
        except Refusal as refusal:
            self.message_user(request, display.sentence(refusal), messages.ERROR)
        else:
            self.message_user(request, display.sentence(f"{named} {act.said}"), messages.SUCCESS)

    def act_view(self, request: HttpRequest, key: int, name: str) -> HttpResponse:
        """Say what will happen; once confirmed, do it and say what became of it. By GET, only the row's page."""
        row = self.get_object(request, str(key))
        act = next((act for act in self.pause_acts if act.name == name), None)
        if act is None:
            raise Http404("No such act.")
        back = self.page_after(request, row)
        if request.method != "POST":
            return HttpResponseRedirect(back)
        if not self._may(request, act.scope, row):
            raise PermissionDenied
        form = ReasonForm(request.POST if "confirm" in request.POST else None, asks_until=act.asks_until)
        named = f"{self.audit_kind} {row}"
        if form.is_bound and form.is_valid():
            self.perform(request, act, self.tenant_of(row), *self.pause_target(row), named=named, **form.cleaned_data)
            is_gone = act.is_end and not self.get_queryset(request).filter(pk=row.pk).exists()
            return HttpResponseRedirect(self.list_page() if is_gone else back)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.label} {named}{act.for_whom}",
            "opts": self.opts,
            "act": act,
            "form": form,
            "row": row,
            "page": self.page_of(row),
            "badge": display.badge(self.state(row)),
            "paused": "" if row.paused_at is None else display.pause(row),
            "fits": act.applies(row),
            "back": request.POST.get("back", ""),
            "back_url": back,
        }
        return TemplateResponse(request, "admin/jobsite/pause.html", context)
