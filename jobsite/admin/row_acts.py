"""Acts on a row, from its page. An act is data: one page asks for confirmation, and a message reports the result."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, principal_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.reason_form import KEPT, SHOWN, ReasonForm
from jobsite.errors import Refusal
from jobsite.tenants.models import Pausable

M = TypeVar("M", bound=Model)

PROBABLY_REFUSED = "will probably be refused"


@dataclass(frozen=True)
class Act:
    """One thing that can be done: what its page says and asks, who may do it, and to which rows it applies.

    `asks` names the fields of the form. `applies` says whether a row fits, as far as a page can know.
    """

    name: str
    label: str
    explanation: str
    _: KW_ONLY
    title: str = ""
    """What its page is headed; `{row}` stands for the row's name. Empty: the label and the row's name."""
    scope: str = ADMIN
    applies: Callable[[Any], bool] = lambda row: True
    asks: tuple[str, ...] = ("reason",)


@dataclass(frozen=True, kw_only=True)
class RowAct(Act):
    """An act on one row, done by `run(principal, *target, **filled in)`, which does it or refuses.

    `said` follows the row's name in the message afterwards; a function makes the whole message from what `run`
    returned. After an act with `is_end` the row no longer exists.
    """

    run: Callable[..., object]
    said: str | Callable[[Any], str | SafeString]
    is_end: bool = False


@dataclass(frozen=True)
class Touched:
    """A row as the page of an act names it; its note is a warning where the act does not fit the row."""

    page: str
    name: str
    about: str | SafeString
    note: str
    fits: bool


def confirmation(
    page: TenantScopedAdmin[Any],
    request: HttpRequest,
    act: Act,
    form: ReasonForm,
    *,
    template: str = "admin/jobsite/act.html",
    title: str,
    back: str,
    touched: Sequence[Touched] = (),
    hidden: Sequence[tuple[str, object]] = (),
    **shown: object,
) -> TemplateResponse:
    """The page that says what an act does and to which rows, and asks; `back` is where it leads without a yes.

    `hidden` is sent along with the form. The template also takes `heading`, `missing` and `unnamed` for many rows,
    `row` and `row_page` for one, `button` where its text is not the label, and `address` where another page does the
    act.
    """
    context = {
        **page.admin_site.each_context(request),
        "title": title,
        "opts": page.opts,
        "act": act,
        "form": form,
        "touched": touched,
        "hidden": hidden,
        "back_url": back,
        **shown,
    }
    return TemplateResponse(request, template, context)


class ActedAdmin(TenantScopedAdmin[M]):
    """Buttons on a row's page for the acts that fit the row and the user, and the page that confirms each act."""

    row_acts: ClassVar[tuple[RowAct, ...]] = ()

    def called(self, row: Any) -> str:
        """What the page of an act calls the row."""
        return f"{self.audit_kind} {row}"

    def named(self, row: Any) -> str:
        """What messages call the row."""
        return f"{self.audit_kind} {self.audit_target(row)}"

    def target_of(self, row: Any) -> tuple[object, ...]:
        """The arguments by which `run` of an act finds the row."""
        return (self.audit_target(row),)

    def state_word(self, row: Any) -> str:
        """What the badge of a row that can be paused says."""
        return str(getattr(row, "status", "ACTIVE" if row.paused_at is None else "PAUSED"))

    def noted(self, row: Any) -> str | SafeString:
        """What the page of an act says about the row beside its name: its state, if it can be paused."""
        if not isinstance(row, Pausable):
            return ""
        badge = display.badge(self.state_word(row))
        return badge if row.paused_at is None else format_html("{} {}", badge, display.pause(row))

    def page_after(self, request: HttpRequest, row: Any, act: RowAct) -> str:
        """The address that follows an act, done or not."""
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

    def fitting(self, row: Model) -> list[tuple[RowAct, str]]:
        """The acts that fit the row, each with its address."""
        return [
            (act, reverse(f"admin:{self._act_url_name}", args=[row.pk, act.name]))
            for act in self.row_acts
            if act.applies(row)
        ]

    def offered(self, request: HttpRequest, row: Model) -> list[tuple[RowAct, str]]:
        """The fitting acts that the user may do."""
        return [(act, address) for act, address in self.fitting(row) if self._may(request, act.scope, row)]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With the buttons above the form."""
        row = context.get("original")
        buttons = {"acts": [] if row is None else self.offered(request, row)}
        return super().render_change_form(request, buttons | context, *args, **kwargs)

    def act_view(self, request: HttpRequest, key: int, name: str) -> HttpResponse:
        """Say what will happen; once confirmed, do it and report the result. A GET leads to the row's page."""
        row = self.get_object(request, str(key))
        act = next((act for act in self.row_acts if act.name == name), None)
        if act is None:
            raise Http404("No such act.")
        back = self.page_after(request, row, act)
        if request.method != "POST":
            return HttpResponseRedirect(back)
        if not self._may(request, act.scope, row):
            raise PermissionDenied
        form = ReasonForm(
            request.POST if "confirm" in request.POST else None,
            asks=act.asks,
            reason_help=SHOWN if isinstance(row, Pausable) else KEPT,
        )
        if form.is_bound and form.is_valid():
            is_done = self.perform(request, act, row, form.cleaned_data)
            return HttpResponseRedirect(self.list_page() if is_done and act.is_end else back)
        return self._confirmation(request, act, row, form, back)

    def _confirmation(
        self, request: HttpRequest, act: RowAct, row: Any, form: ReasonForm, back: str
    ) -> TemplateResponse:
        noted = self.noted(row)
        fits = act.applies(row)
        touched = Touched(
            page=self.page_of(row),
            name=str(row),
            about=format_html('<span class="jobsite-quiet">{}</span>', noted) if noted else "",
            note="" if fits else PROBABLY_REFUSED,
            fits=fits,
        )
        return confirmation(
            self,
            request,
            act,
            form,
            title=(act.title or f"{act.label} {{row}}").format(row=self.called(row)),
            back=back,
            touched=[touched],
            hidden=[("back", value) for value in request.POST.getlist("back")],
            row=row,
            row_page=touched.page,
        )

    def perform(self, request: HttpRequest, act: RowAct, row: Any, given: dict[str, Any]) -> bool:
        """Do it as the user in the row's tenant, and report the result; True where it is done."""
        try:
            found = act.run(principal_of(request, self.tenant_of(row)), *self.target_of(row), **given)
        except Refusal as refusal:
            self.message_user(request, display.sentence(refusal), messages.ERROR)
            return False
        said = act.said(found) if callable(act.said) else display.sentence(f"{self.named(row)} {act.said}")
        self.message_user(request, said, messages.SUCCESS)
        return True
