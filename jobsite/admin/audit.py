"""The audit, read-only: who did what, when and why, in the tenants that the user is a member of."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.base import BoundedPaginator, TenantScopedAdmin
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.keyset import KeysetChangeList
from jobsite.tenants.models import AuditEntry

TARGETS = (
    *("job", "jobs", "program", "schedule", "queue", "tenant", "membership", "worker manager"),
    *("group", "rule", "template", "delivery"),
)
DOORS = ("admin", "api", "cli", "python")


@admin.register(AuditEntry)
class AuditEntryAdmin(TenantScopedAdmin[AuditEntry]):
    """Entries are only added: the database itself refuses to change or delete one."""

    names_tenant = True
    empty_hint = "No audit entries yet: each operator action here, in the API or on the command line adds one."
    list_display = ("when", "actor", "action", "target_shown", "reason", "door")
    list_filter = (
        choice_filter("about", "target", [(one, one) for one in TARGETS], field="target_type"),
        choice_filter("door", "door", [(one, one) for one in DOORS]),
        TenantFilter,
    )
    list_select_related = ("tenant",)
    search_fields = ("target",)
    search_help_text = "A job's number, a program's code, or a user's name; exact."
    sortable_by = ()
    ordering = ("-id",)
    paginator = BoundedPaginator
    fields = ("when", "tenant", "actor", "door", "action", "target_shown", "reason", "before_shown", "after_shown")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        """The list that counts no rows."""
        return KeysetChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All of them."""
        return self.fields

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By target or actor, exactly."""
        term = search_term.strip().removeprefix("#")
        return (queryset.filter(Q(target=term) | Q(actor=term)) if term else queryset), False

    @admin.display(description="when (UTC)")
    def when(self, entry: AuditEntry) -> str:
        """The moment."""
        return display.moment(entry.at)

    @admin.display(description="target")
    def target_shown(self, entry: AuditEntry) -> str | SafeString:
        """What was acted on; a job as a link."""
        if entry.target_type == "job" and entry.target.isdigit():
            url = reverse("admin:jobsite_programs_job_change", args=[entry.target])
            return format_html('<a href="{}">job #{}</a>', url, entry.target)
        return f"{entry.target_type} {entry.target}"

    @admin.display(description="before")
    def before_shown(self, entry: AuditEntry) -> str | SafeString:
        """As it was."""
        return display.NOTHING if entry.before is None else display.code_block(entry.before)

    @admin.display(description="after")
    def after_shown(self, entry: AuditEntry) -> str | SafeString:
        """As it became."""
        return display.NOTHING if entry.after is None else display.code_block(entry.after)
