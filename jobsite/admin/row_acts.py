"""What is done to a group, rule, template or delivery from its page: asked for once, confirmed once, told after."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, principal_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.reason_form import ReasonForm
from jobsite.errors import Refusal
from jobsite.tenants.principals import Principal

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class RowAct:
    """One thing that can be done to a row; `run` gets the reason and says what became of it, or refuses.

    After one that `is_end` there is no row. `applies` says whether it is offered.
    """

    name: str
    label: str
    run: Callable[[Principal, Any, str], str | SafeString]
    explanation: str
    applies: Callable[[Any], bool] = lambda row: True
    scope: str = ADMIN
    asks_reason: bool = True
    is_end: bool = False
    for_whom: str = ""


class AskForm(ReasonForm):
    """Why, where that is asked."""

    reason_help = "Kept in the audit."

    def __init__(self, data: Mapping[str, Any] | None = None, *, asks_reason: bool) -> None:
        super().__init__(data, asks_until=False)
        if not asks_reason:
            del self.fields["reason"]


class ActedAdmin(TenantScopedAdmin[M]):
    """Buttons on a row's page that fit it and the user, and the page on which each is confirmed."""

    row_acts: ClassVar[tuple[RowAct, ...]] = ()

    def called(self, row: Any) -> str:
        """What titles and messages call the row."""
        return f"{self.audit_kind} {row}"

    def noted(self, row: Any) -> str | SafeString:
        """What the page of an act says of the row, beside its name."""
        return ""

    def page_after(self, row: Any, act: RowAct) -> str:
        """Where an act leads to, done or not."""
        return self.page_of(row)

    def page_of(self, row: Model) -> str:
        """The address of the row's page."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])

    def list_page(self) -> str:
        """The address of the list."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def get_urls(self) -> list[URLPattern]:
        """With the page on which an act is confirmed."""
        view = self.admin_site.admin_view(self.act_view)
        return [path("<int:key>/act/<slug:name>/", view, name=self._act_url_name), *super().get_urls()]

    @property
    def _act_url_name(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_act"

    def offered(self, request: HttpRequest, row: Model) -> list[tuple[RowAct, str]]:
        """The acts that fit the row and that the user may do, each with its address."""
        return [
            (act, reverse(f"admin:{self._act_url_name}", args=[row.pk, act.name]))
            for act in self.row_acts
            if act.applies(row) and self._may(request, act.scope, row)
        ]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With the buttons above the form."""
        row = context.get("original")
        buttons = {"pause_acts": [] if row is None else self.offered(request, row)}
        return super().render_change_form(request, buttons | context, *args, **kwargs)

    def act_view(self, request: HttpRequest, key: int, name: str) -> HttpResponse:
        """Say what will happen; once confirmed, do it and say what became of it. By GET, only the row's page."""
        row = self.get_object(request, str(key))
        act = next((act for act in self.row_acts if act.name == name), None)
        if act is None:
            raise Http404("No such act.")
        back = self.page_after(row, act)
        if request.method != "POST":
            return HttpResponseRedirect(back)
        if not self._may(request, act.scope, row):
            raise PermissionDenied
        form = AskForm(request.POST if "confirm" in request.POST else None, asks_reason=act.asks_reason)
        if form.is_bound and form.is_valid():
            is_done = self._perform(request, act, row, form)
            return HttpResponseRedirect(self.list_page() if is_done and act.is_end else back)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.label}: {self.called(row)}",
            "opts": self.opts,
            "act": act,
            "form": form,
            "row": row,
            "page": self.page_of(row),
            "noted": self.noted(row),
            "fits": act.applies(row),
            "back_url": back,
        }
        return TemplateResponse(request, "admin/jobsite/notification_act.html", context)

    def _perform(self, request: HttpRequest, act: RowAct, row: Any, form: forms.Form) -> bool:
        principal = principal_of(request, self.tenant_of(row))
        try:
            said = act.run(principal, row, form.cleaned_data.get("reason", ""))
        except Refusal as refusal:
            self.message_user(request, display.sentence(refusal), messages.ERROR)
            return False
        self.message_user(request, said, messages.SUCCESS)
        return True
