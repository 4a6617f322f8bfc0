"""The pages of notification groups: their rules, and the programs that name them."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, access_of, principal_of
from jobsite.admin.filters import TenantFilter
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.notifications import operations
from jobsite.notifications.admin import rule as rule_page
from jobsite.notifications.models import Group, Rule

NAMED = 5
"""The list shows at most this many of the programs that name a group."""
RULES = 100


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new group."""

    def clean(self) -> dict[str, Any]:
        """Refuse a code that is taken; the domain refuses it too, where two are added at the same moment."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        code, tenant = values.get("code"), values.get("tenant")
        if code and tenant and Group.objects.filter(tenant=tenant, code=code, deleted_at__isnull=True).exists():
            self.add_error("code", f"There is a notification group {code} already.")
        return values


@admin.register(Group)
class GroupAdmin(ActedAdmin[Group]):
    """Groups of the tenants that the user is a member of."""

    add_scope = ADMIN
    names_tenant = True
    form = GroupForm
    change_form_template = "admin/jobsite/notification_group.html"
    page_note = display.words(
        'A program names its group in its program file, `notification_group = "CODE"`; the group\'s rules say who '
        "is notified of what."
    )
    empty_hint = display.words(
        "No groups yet: add one here, with rules that say who is notified of what, and name it in a program file "
        "with `notification_group`."
    )
    list_display = ("code", "name", "rules_counted", "programs_shown")
    list_filter = (TenantFilter,)
    list_select_related = ("tenant",)
    search_fields = ("code", "name")
    search_help_text = "A code or a name, or a part of it."
    ordering = ("code", "id")
    row_acts = (
        RowAct(
            "delete",
            "Delete",
            "Its rules are deleted with it, and their messages that still wait are not sent. A group that a program "
            "names cannot be deleted.",
            title="Delete: {row}",
            run=operations.delete_group,
            said="is deleted with its rules",
            is_end=True,
        ),
    )

    @property
    def audit_kind(self) -> str:
        """As the domain writes it."""
        return "group"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        """Those that are not deleted, with how many rules they have and some of the programs that name them."""
        rules = Rule.objects.filter(group=OuterRef("pk"), deleted_at__isnull=True).order_by()
        counted = rules.values("group").annotate(count=Count("pk")).values("count")
        named = Group.objects.filter(
            pk=OuterRef("pk"), programs__isnull=False, programs__deleted_at__isnull=True
        ).order_by("programs__code")
        return (
            super()
            .get_queryset(request)
            .filter(deleted_at__isnull=True)
            .annotate(
                rules_count=Coalesce(Subquery(counted), 0),
                naming=ArraySubquery(named.values("programs__code")[: NAMED + 1]),
            )
        )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The fields of a new group; later also the programs that name it."""
        return ("tenant", "code", "name") if obj is None else ("tenant", "code", "name", "programs_linked")

    def save_model(self, request: HttpRequest, obj: Group, form: Any, change: bool) -> None:
        """Through the domain: permitted and audited."""
        made = operations.create_group(principal_of(request, obj.tenant), obj.code, name=obj.name)
        obj.pk = made.pk

    def response_add(self, request: HttpRequest, obj: Group, post_url_continue: str | None = None) -> HttpResponse:
        """Lead to its rules."""
        if "_addanother" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        self.message_user(request, f"Group {obj.code} is made; now add its rules.", messages.SUCCESS)
        return HttpResponseRedirect(self.page_of(obj))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """With its rules."""
        row = context.get("original")
        if row is not None:
            address = reverse("admin:jobsite_notifications_rule_changelist")
            rules = operations.rules_of(principal_of(request, row.tenant), group=row.code)
            may_add = access_of(request).may(ADMIN, row.tenant_id)
            add = reverse("admin:jobsite_notifications_rule_add")
            context |= {
                "rules": [rule_page.as_shown(one) for one in rules[:RULES]],
                "more": max(0, row.rules_count - RULES),
                "rules_page": f"{address}?group={row.pk}",
                "page_links": [("Add a rule", f"{add}?group={row.pk}")] if may_add else [],
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def noted(self, row: Any) -> str:
        """How many rules are deleted with it."""
        return f"with {row.rules_count} rule{'' if row.rules_count == 1 else 's'}"

    def audit_target(self, obj: Model) -> str:
        """Its code."""
        return str(obj)

    @admin.display(description="rules", ordering="rules_count")
    def rules_counted(self, row: Any) -> int:
        """How many."""
        count: int = row.rules_count
        return count

    @admin.display(description="programs")
    def programs_shown(self, row: Any) -> str:
        """The first of those that name it."""
        return ", ".join(row.naming[:NAMED]) + (", …" if len(row.naming) > NAMED else "") or display.NOTHING

    @admin.display(description="programs")
    def programs_linked(self, row: Group) -> str | SafeString:
        """Those that name it, as links."""
        rows = row.programs.filter(deleted_at__isnull=True).order_by("code")
        found = list(rows.values_list("pk", "code")[: RULES + 1])
        if not found:
            return display.words("None yet: write `notification_group` into a program file.")
        links = format_html_join(
            ", ",
            '<a href="{}">{}</a>',
            ((reverse("admin:jobsite_programs_program_change", args=[key]), code) for key, code in found[:RULES]),
        )
        return format_html("{}{}", links, ", …" if len(found) > RULES else "")
