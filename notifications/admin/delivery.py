"""The pages of deliveries: who was notified of what, what became of it, and how to send one again."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import WRITE, access_of
from jobsite.admin.base import BoundedPaginator
from jobsite.admin.filters import ChoiceFilter, TenantFilter, choice_filter
from jobsite.admin.keyset import MAX_KEY, KeysetChangeList, number_in
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.notifications import operations
from jobsite.notifications.admin import inbox
from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.models import Delivery
from jobsite.notifications.models.delivery import Status
from jobsite.notifications.subjects import subject
from jobsite.tenants.models import Tenant

WINDOW = 100_000
"""A filter searches at most this many of a tenant's newest deliveries, because it has no index."""
LARGE = ("text", "details")


class DeliveryChangeList(KeysetChangeList):
    """Each page is read in the order of a tenant's keys; with a filter, only among the newest."""

    looks_back = False

    def page(self, request: HttpRequest, rows: QuerySet[Any], limit: int) -> list[Any]:
        """The first matching deliveries, newest first."""
        # One job has few deliveries, and an index finds them.
        branches = [rows] if self.query else self._branches(request, rows)
        if not branches:
            return []
        if len(branches) > 1:
            first, *others = [one.order_by("-pk").values_list("pk", flat=True)[:limit] for one in branches]
            rows = rows.filter(pk__in=list(first.union(*others, all=True).order_by("-id")[:limit]))
        else:
            rows = branches[0]
        return list(rows.defer(*LARGE)[:limit])

    def _branches(self, request: HttpRequest, rows: QuerySet[Any]) -> list[QuerySet[Any]]:
        specs: Any = self.filter_specs
        chosen = {str(spec.parameter_name): spec.value() for spec in specs if isinstance(spec, ChoiceFilter)}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        self.looks_back = bool(chosen.keys() - {"tenant"})
        access = access_of(request)
        if "tenant" in chosen:
            tenants = list(Tenant.objects.filter(code=chosen["tenant"]).values_list("pk", flat=True))
        elif access.is_platform:
            return [self._window(rows, Delivery.objects.all())]
        else:
            tenants = access.tenants()
        return [self._window(rows.filter(tenant=one), Delivery.objects.filter(tenant=one)) for one in tenants]

    def _window(self, rows: QuerySet[Any], scope: QuerySet[Delivery]) -> QuerySet[Any]:
        if not self.looks_back:
            return rows
        oldest = scope.order_by("-pk").values("pk")[WINDOW : WINDOW + 1]
        return rows.filter(pk__gte=Coalesce(Subquery(oldest), Value(0)))


@admin.register(Delivery)
class DeliveryAdmin(ActedAdmin[Delivery]):
    """Deliveries of the tenants that the user is a member of; nobody makes, changes or deletes one here."""

    names_tenant = True
    change_list_template = "admin/jobsite/notification_deliveries.html"
    empty_hint = (
        "Nothing was sent yet. A message is written as soon as the event of a rule happens, or when a job that was "
        "submitted with notify ends."
    )
    list_display = ("number", "status_shown", "event", "channel", "recipient", "job_shown", "when", "why")
    list_filter = (
        choice_filter("status", "status", Status.choices),
        choice_filter("channel", "channel", [(one, one) for one in CHANNELS]),
        TenantFilter,
    )
    list_select_related = ("user", "tenant")
    search_fields = ("job_number",)
    search_help_text = "A job's number."
    sortable_by = ()
    ordering = ("-id",)
    paginator = BoundedPaginator
    row_acts = (
        RowAct(
            "again",
            "Send again",
            "It is sent again as a new message with an id of its own, to the same recipient, in the words that are in "
            "use now.",
            title="Send again: {row}",
            run=operations.send_again,
            said="is on its way again",
            applies=lambda row: row.status != Status.PENDING,
            scope=WRITE,
        ),
    )
    fieldsets = (
        (None, {"fields": ("status_shown", "why_whole", "event", "about", "tenant")}),
        ("Recipient", {"fields": ("recipient_linked", "channel", "rule_shown", "language_shown", "read")}),
        ("Sending", {"fields": ("happened", "attempts", "due", "finished", "message_id")}),
        ("Message", {"fields": ("subject_shown", "text_shown")}),
    )

    @property
    def audit_kind(self) -> str:
        """As the domain writes it."""
        return "delivery"

    def audit_target(self, obj: Model) -> str:
        """Its number."""
        return str(obj.pk)

    def called(self, row: Any) -> str:
        """Its number, and what it is."""
        return f"delivery {row.pk}, {row}"

    def target_of(self, row: Any) -> tuple[object, ...]:
        """Its key."""
        return (row.pk,)

    def noted(self, row: Any) -> SafeString:
        """Its status, channel and reason."""
        reason = f": {row.reason}" if row.reason else ""
        return format_html("{} by {}{}", display.badge(row.status), row.channel, reason)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        """The list that counts no rows."""
        return DeliveryChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """With the related rows that are shown."""
        return super().get_queryset(request).select_related("tenant", "user", "rule__group").defer("rule__secret")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only messages of the inbox say when they were read."""
        if obj is None or obj.channel == "inbox":
            return self.fieldsets
        return [(title, {"fields": [one for one in part["fields"] if one != "read"]}) for title, part in self.fieldsets]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """All of them."""
        return flatten_fieldsets(self.fieldsets)

    def get_urls(self) -> list[URLPattern]:
        """With the inbox."""
        view = self.admin_site.admin_view(self.inbox_view)
        return [path("inbox/", view, name=inbox.PAGE), *super().get_urls()]

    def inbox_view(self, request: HttpRequest) -> HttpResponse:
        """The user's own messages."""
        return inbox.view(self, request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By a job's number."""
        if not search_term.strip():
            return queryset, False
        number = number_in(search_term)
        known = number is not None and number <= MAX_KEY
        return (queryset.filter(job_number=number) if known else queryset.none()), False

    # ---- Columns ------------------------------------------------------------------------------------------------

    @admin.display(description="number")
    def number(self, row: Delivery) -> int:
        """Its key."""
        return row.pk

    @admin.display(description="status")
    def status_shown(self, row: Delivery) -> SafeString:
        """A badge."""
        return display.badge(row.status)

    @admin.display(description="to")
    def recipient(self, row: Delivery) -> str:
        """A user or an address."""
        return row.recipient

    @admin.display(description="job")
    def job_shown(self, row: Delivery) -> str:
        """Its number."""
        return display.NOTHING if row.job_number is None else f"#{row.job_number}"

    @admin.display(description="happened (UTC)")
    def when(self, row: Delivery) -> SafeString:
        """When what it reports happened."""
        return display.minute(row.happened_at)

    @admin.display(description="reason")
    def why(self, row: Delivery) -> str:
        """Its beginning; a delivery that was sent needs no explanation."""
        if row.status == Status.SENT or not row.reason:
            return display.NOTHING
        return row.reason if len(row.reason) <= 120 else f"{row.reason[:119]}…"

    # ---- One delivery -------------------------------------------------------------------------------------------

    @admin.display(description="reason")
    def why_whole(self, row: Delivery) -> str:
        """Why it failed or was kept back, or what the receiver said."""
        return row.reason or display.NOTHING

    @admin.display(description="to")
    def recipient_linked(self, row: Delivery) -> str:
        """A user with their present address, or an address."""
        if row.user is None:
            return row.address
        is_mail = row.channel == "email" and row.user.email
        return f"{row.user.get_username()} ({row.user.email})" if is_mail else row.user.get_username()

    @admin.display(description="about")
    def about(self, row: Delivery) -> str | SafeString:
        """The job, schedule or program that it is about, if it still exists."""
        if "test" in row.details:
            return "A test of the rule, with sample facts."
        found = subject(
            tenant_id=row.tenant_id,
            job_number=row.job_number,
            program_id=row.program_id,
            schedule_id=row.schedule_id,
        )
        if found is None:
            return display.NOTHING
        return format_html('<a href="{}">{}</a>', found.page, found.name) if found.page else f"{found.name} (deleted)"

    @admin.display(description="rule")
    def rule_shown(self, row: Delivery) -> str | SafeString:
        """The rule that sent it, in its group."""
        if row.rule is None:
            return "None: the job was submitted with notify."
        named = f"{row.rule.pk}, {row.rule} of group {row.rule.group.code}"
        if row.rule.deleted_at is not None:
            return f"{named} (deleted)"
        url = reverse("admin:jobsite_notifications_rule_change", args=[row.rule.pk])
        return format_html('<a href="{}">{}</a>', url, named)

    @admin.display(description="language")
    def language_shown(self, row: Delivery) -> str:
        """In which it was written."""
        return row.language or display.NOTHING

    @admin.display(description="read (UTC)")
    def read(self, row: Delivery) -> str | SafeString:
        """When the user marked it read."""
        return display.moment(row.read_at)

    @admin.display(description="happened (UTC)")
    def happened(self, row: Delivery) -> str | SafeString:
        """When what it reports happened."""
        return display.moment(row.happened_at)

    @admin.display(description="next try (UTC)")
    def due(self, row: Delivery) -> str | SafeString:
        """When it is tried next; nothing once it has ended."""
        return display.moment(row.due_at if row.status == Status.PENDING else None)

    @admin.display(description="ended (UTC)")
    def finished(self, row: Delivery) -> str | SafeString:
        """When it was sent or given up."""
        return display.moment(row.finished_at)

    @admin.display(description="message id")
    def message_id(self, row: Delivery) -> str:
        """As receivers see it; `send again` makes another."""
        return f"msg_{row.identity}"

    @admin.display(description="subject")
    def subject_shown(self, row: Delivery) -> str:
        """As it was sent."""
        return row.subject or "Not made yet: the words are filled in when it is sent."

    @admin.display(description="text")
    def text_shown(self, row: Delivery) -> str | SafeString:
        """As it was sent."""
        return format_html('<pre class="jobsite-code">{}</pre>', row.text) if row.text else display.NOTHING
