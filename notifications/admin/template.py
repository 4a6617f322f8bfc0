"""The pages of templates: the words of each language, a preview of them, and how to restore the words of jobsite."""

from functools import partial
from typing import Any

from csp.decorators import csp_update
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, principal_of
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.errors import Invalid, Refusal
from jobsite.notifications import operations, rendering, wordings
from jobsite.notifications.admin.template_form import NewTemplateForm, WordsForm
from jobsite.notifications.events import LANGUAGES
from jobsite.notifications.liquid_rules import FILTERS, NAMES
from jobsite.notifications.models import Template
from jobsite.notifications.models.template import EVENTS
from jobsite.notifications.rendering import PARTS, Rendered, Wording
from jobsite.tenants.principals import Principal

LANGUAGE_NAMES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish"}
# An e-mail is styled by attributes, because mail clients support nothing else. The preview is a document inside the
# page and under its policy. It is sandboxed, so that nothing runs in it and it reaches nothing.
_may_show_mail: Any = csp_update({"style-src": ["'self'", "'unsafe-inline'"]})


# ---- What is done -------------------------------------------------------------------------------------------------


def _is_changed(language: str, row: Template) -> bool:
    return language in changed(row)


def _restoring(language: str) -> RowAct:
    return RowAct(
        f"restore-{language}",
        f"Restore {LANGUAGE_NAMES[language]}",
        f"The words that were written for {LANGUAGE_NAMES[language]} are dropped (the audit keeps them), and the "
        "event's own words are used again.",
        title=f"Restore {LANGUAGE_NAMES[language]}: {{row}}",
        run=partial(operations.restore_words, language=language),
        said=f"has the event's own words in {LANGUAGE_NAMES[language]} again",
        applies=partial(_is_changed, language),
        asks=(),
    )


DELETE = RowAct(
    "delete",
    "Delete",
    "Its words are gone, in all languages. A template that a rule names cannot be deleted.",
    title="Delete: {row}",
    run=operations.delete_template,
    said="is deleted",
    applies=lambda row: not row.is_default,
    is_end=True,
)


def changed(row: Template) -> list[str]:
    """The languages for which the tenant has written words of its own."""
    written = {one.language for one in row.translations.all()}
    return [language for language in LANGUAGES if language in written]


# ---- The pages ----------------------------------------------------------------------------------------------------


@admin.register(Template)
class TemplateAdmin(ActedAdmin[Template]):
    """Templates of the tenants that the user is a member of."""

    row_acts = (*(_restoring(language) for language in LANGUAGES), DELETE)
    add_scope = ADMIN
    names_tenant = True
    form = NewTemplateForm
    page_note = (
        "Each event has a template of its own, and every rule that names no other uses it. Words that you change are "
        "used from then on, and can be restored."
    )
    empty_hint = "No templates yet: a new tenant gets one for each event."
    list_display = ("code", "event", "use", "languages")
    list_filter = (choice_filter("event", "event", EVENTS), TenantFilter)
    list_select_related = ("tenant",)
    search_fields = ("code",)
    search_help_text = "A template's code, or a part of it."
    ordering = ("-is_default", "code", "id")
    fields = ("tenant", "code", "event")

    @property
    def audit_kind(self) -> str:
        """As the domain writes it."""
        return "template"

    def audit_target(self, obj: Model) -> str:
        """Its code."""
        return str(obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Template]:
        """Those that are not deleted, with their translations."""
        rows = super().get_queryset(request).filter(deleted_at__isnull=True)
        return rows.select_related("tenant").prefetch_related("translations")

    def save_model(self, request: HttpRequest, obj: Template, form: Any, change: bool) -> None:
        """Through the domain: permitted and audited."""
        made = operations.create_template(principal_of(request, obj.tenant), obj.code, obj.event)
        obj.pk = made.pk

    def response_add(self, request: HttpRequest, obj: Template, post_url_continue: str | None = None) -> HttpResponse:
        """Lead to its words."""
        if "_addanother" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(
            request,
            f"Template {obj.code} is made; it has the event's own words until you change them.",
            messages.SUCCESS,
        )
        return HttpResponseRedirect(self.page_of(obj))

    def page_after(self, request: HttpRequest, row: Any, act: RowAct) -> str:
        """The page of the language that was restored, or of the template."""
        _, is_restored, language = act.name.partition("restore-")
        return self.page_in(row, language) if is_restored else self.page_of(row)

    def page_in(self, row: Template, language: str) -> str:
        """The address of the page of a language."""
        return f"{self.page_of(row)}?language={language}"

    @admin.display(description="used")
    def use(self, row: Template) -> str:
        """By which rules."""
        return "by rules that name no other" if row.is_default else "by rules that name it"

    @admin.display(description="changed")
    def languages(self, row: Template) -> str | SafeString:
        """The languages whose words were changed."""
        return (
            format_html_join(" ", '<span class="jobsite-language">{}</span>', ((one,) for one in changed(row)))
            or display.NOTHING
        )

    # ---- One template -------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The words of a language: view, preview, save."""
        row = self.get_object(request, unquote(object_id))
        language = request.GET.get("language") or self._first_language(row)
        if language not in LANGUAGES:
            raise Http404("No such language.")
        answer: HttpResponse = _may_show_mail(self._language_view)(request, row, language)
        return answer

    def _first_language(self, row: Template) -> str:
        spoken = row.tenant.language.replace("_", "-").split("-")[0].lower()
        return spoken if spoken in LANGUAGES else "en"

    def _language_view(self, request: HttpRequest, row: Template, language: str) -> HttpResponse:
        may_change = self._may(request, ADMIN, row)
        is_saving = request.method == "POST" and "save" in request.POST
        if is_saving and not may_change:
            raise PermissionDenied
        principal = principal_of(request, row.tenant)
        in_use = wordings.in_use(row, language)
        initial = {part: getattr(in_use, part) for part in PARTS}
        form = WordsForm(request.POST if request.method == "POST" else None, initial=initial, may_change=may_change)
        rendered: Rendered | None = None
        wrong = ""
        if form.is_bound:
            if form.is_valid():
                if is_saving and self._save(request, principal, row, language, form, in_use):
                    return HttpResponseRedirect(self.page_in(row, language))
                if not is_saving:
                    rendered = self._tried(principal, row, language, form)
        else:
            try:
                rendered = operations.preview(principal, row.code, language)
            except Refusal as refusal:
                wrong = display.sentence(refusal)
        written = changed(row)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Template {row.code}",
            "opts": self.opts,
            "original": row,
            "row": row,
            "form": form,
            "may_change": may_change,
            "language": LANGUAGE_NAMES[language],
            "is_changed": language in written,
            "tabs": [
                (LANGUAGE_NAMES[one], self.page_in(row, one), one == language, one in written) for one in LANGUAGES
            ],
            "acts": [
                (act, address)
                for act, address in self.offered(request, row)
                if not act.name.startswith("restore-") or act.name == f"restore-{language}"
            ],
            "rendered": rendered,
            "tried_with": f"job #{form.cleaned_data['job']}" if form.is_bound and _has_job(form) else "sample data",
            "wrong": wrong,
            "names": NAMES,
            "filters": sorted((*FILTERS, "when", "duration", "json")),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/jobsite/notification_template.html", context)

    def _save(
        self, request: HttpRequest, principal: Principal, row: Template, language: str, form: WordsForm, kept: Wording
    ) -> bool:
        words = form.words()
        if words == kept:
            self.message_user(request, "Nothing was changed.", messages.INFO)
            return True
        try:
            operations.save_words(principal, row.code, language, words)
        except Refusal as refusal:
            form.refuse(refusal)
            return False
        said = f"The words in {LANGUAGE_NAMES[language]} are saved, and used from now on."
        self.message_user(request, said, messages.SUCCESS)
        return True

    def _tried(self, principal: Principal, row: Template, language: str, form: WordsForm) -> Rendered | None:
        words = form.words()
        try:
            # Checked as on saving, so that all problems are shown at once.
            if problems := rendering.problems(words):
                listed = [{"message": str(one)} for one in problems]
                raise Invalid("", code="broken_template", errors=listed)
            return operations.preview(principal, row.code, language, words=words, job=form.cleaned_data["job"])
        except Refusal as refusal:
            form.refuse(refusal)
            return None


def _has_job(form: WordsForm) -> bool:
    return form.cleaned_data.get("job") is not None
