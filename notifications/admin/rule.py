"""The pages of rules: who is notified of which event, by which channel, in which words."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, access_of, principal_of
from jobsite.admin.filters import CodeFilter, TenantFilter, choice_filter
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.notifications import operations
from jobsite.notifications.admin.rule_form import FIELDS, HOW, TO, WHEN, RuleForm
from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.events import RULE_EVENTS
from jobsite.notifications.models import Delivery, Group, Rule

NAMED_RECIPIENTS = 4
NAMED_DELIVERIES = 10
SECRET = "The secret of this webhook, which is shown this once: {}"  # noqa: S105 - what stands around one


# ---- What is done -------------------------------------------------------------------------------------------------


def _on_the_way(found: Sequence[Delivery]) -> SafeString:
    links = format_html_join(
        ", ",
        '<a href="{}">{}</a>',
        (
            (reverse("admin:jobsite_notifications_delivery_change", args=[one.pk]), f"to {one.user or one.address}")
            for one in found[:NAMED_DELIVERIES]
        ),
    )
    rest = len(found) - NAMED_DELIVERIES
    return format_html(
        "{} with sample facts {} on the way: {}{}.",
        "1 message" if len(found) == 1 else f"{len(found)} messages",
        "is" if len(found) == 1 else "are",
        links,
        f" and {rest} more" if rest > 0 else "",
    )


ACTS = (
    RowAct(
        "test",
        "Send a test",
        "Sends what this rule would send, with sample facts, to all its recipients, as if you had submitted the job. "
        "Real messages go out.",
        title="Send a test: {row}",
        run=operations.test_rule,
        said=_on_the_way,
        applies=lambda row: row.is_active,
        asks=(),
    ),
    RowAct(
        "secret",
        "New secret",
        "Makes a new secret and shows it once. Webhooks are signed with it and, until the next change, with the old "
        "one as well, so that the receiver has time to follow.",
        title="New secret: {row}",
        run=operations.rotate_secret,
        said=SECRET.format,
        applies=lambda row: row.channel == "webhook",
        asks=(),
    ),
    RowAct(
        "delete",
        "Delete",
        "Nobody is notified by it any more, and its messages that still wait are not sent.",
        title="Delete: {row}",
        run=operations.delete_rule,
        said="is deleted",
        is_end=True,
    ),
)


# ---- What is shown ------------------------------------------------------------------------------------------------


def recipients(row: Rule, *, limit: int = NAMED_RECIPIENTS) -> str:
    """Who is notified, in words; of many only the first."""
    named = ["the submitter"] if row.to_submitter else []
    named += [f"every {role}" for role in row.to_roles]
    named += sorted(user.get_username() for user in row.to_users.all())
    named += row.to_addresses
    named += [row.to_url] if row.to_url else []
    rest = len(named) - limit
    return ", ".join(named[:limit]) + (f" and {rest} more" if rest > 0 else "") or "nobody any more"


def limits(row: Rule) -> str:
    """When it sends nothing, and whether it reports a recovery too."""
    parts = [f"after {row.in_a_row} in a row"] if row.in_a_row > 1 else []
    parts += [f"one in {row.throttle_minutes} min"] if row.throttle_minutes is not None else []
    parts += ["recovery too"] if row.on_recovery else []
    return ", ".join(parts) or display.NOTHING


def as_shown(row: Rule) -> dict[str, Any]:
    """A rule as the page of its group shows it."""
    return {
        "row": row,
        "page": reverse("admin:jobsite_notifications_rule_change", args=[row.pk]),
        "recipients": recipients(row),
        "template": row.template.code if row.template else "the event's own",
        "limits": limits(row),
        "state": _state(row),
    }


def _state(row: Rule) -> SafeString:
    return display.badge("ACTIVE" if row.is_active else "OFF")


class GroupFilter(CodeFilter):
    """By group."""

    title = "group"
    parameter_name = "group"
    field = "group_id"
    model = Group


@admin.register(Rule)
class RuleAdmin(ActedAdmin[Rule]):
    """Rules of the tenants that the user is a member of."""

    row_acts = ACTS
    add_scope = ADMIN
    change_scope = ADMIN
    names_tenant = True
    form = RuleForm
    empty_hint = "No rules yet: add one here, and say who is notified of which event, by which channel."
    list_display = (
        "event",
        "group_shown",
        "channel",
        "recipients_shown",
        "template_shown",
        "limits_shown",
        "state",
    )
    list_filter = (
        GroupFilter,
        choice_filter("event", "event", [(one, one) for one in RULE_EVENTS]),
        choice_filter("channel", "channel", [(one, one) for one in CHANNELS]),
        TenantFilter,
    )
    list_select_related = ("group", "template", "tenant")
    search_fields = ("group__code", "to_url")
    search_help_text = "A group's code or a webhook's URL, or a part of it."
    ordering = ("group__code", "id")
    fieldsets = (
        (None, {"fields": ("group", "is_active")}),
        ("When", {"fields": WHEN}),
        ("To whom", {"fields": TO}),
        ("How", {"fields": HOW}),
    )
    shown: Any = (
        (None, {"fields": ("tenant", "group_linked", "state")}),
        (None, {"fields": ("event", "limits_shown", "all_recipients", "channel", "template_shown")}),
    )

    @property
    def audit_kind(self) -> str:
        """As the domain writes it."""
        return "rule"

    def audit_target(self, obj: Model) -> str:
        """Its number."""
        return str(obj.pk)

    def called(self, row: Any) -> str:
        """Its number, and what it is."""
        return f"rule {row.pk}, {row}"

    def target_of(self, row: Any) -> tuple[object, ...]:
        """Its key."""
        return (row.pk,)

    def noted(self, row: Any) -> str:
        """Its group and recipients."""
        return f"of group {row.group.code}, to {recipients(row)}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rule]:
        """Those that are not deleted."""
        rows = super().get_queryset(request).filter(deleted_at__isnull=True)
        return rows.select_related("group", "template", "tenant").prefetch_related("to_users").defer("secret")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form; for those who may only look, its values."""
        if obj is None or self.has_change_permission(request, obj):
            return self.fieldsets
        return self.shown

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """The group, which never changes; for those who may only look, everything."""
        if obj is None:
            return []
        return ["group"] if self.has_change_permission(request, obj) else flatten_fieldsets(self.shown)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that knows who sends it."""
        form = super().get_form(request, obj, change, **kwargs)
        known = {"principal_in": partial(principal_of, request), "access": access_of(request)}
        return type("RuleForm", (form,), known)

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        """Through the domain: permitted and audited; a new webhook's secret is shown only once."""
        wanted = form.wanted()
        if change:
            changes = {name: getattr(wanted, name) for name in FIELDS}
            _, secret = operations.change_rule(principal_of(request, obj.tenant), obj.pk, changes)
        else:
            group = form.cleaned_data["group"]
            made, secret = operations.create_rule(principal_of(request, group.tenant), group.code, wanted)
            obj.pk, obj.event, obj.channel, obj.tenant = made.pk, made.event, made.channel, group.tenant
        if secret:
            self.message_user(request, SECRET.format(secret), messages.WARNING)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Do nothing: the domain has written the users."""

    # ---- Columns ------------------------------------------------------------------------------------------------

    @admin.display(description="group", ordering="group__code")
    def group_shown(self, row: Rule) -> str:
        """Its code."""
        return row.group.code

    @admin.display(description="group")
    def group_linked(self, row: Rule) -> SafeString:
        """A link to it."""
        url = reverse("admin:jobsite_notifications_group_change", args=[row.group_id])
        return format_html('<a href="{}">{}</a>', url, row.group.code)

    @admin.display(description="to")
    def recipients_shown(self, row: Rule) -> str:
        """Who is notified."""
        return recipients(row)

    @admin.display(description="to")
    def all_recipients(self, row: Rule) -> str:
        """Every one of them."""
        return recipients(row, limit=1_000)

    @admin.display(description="template")
    def template_shown(self, row: Rule) -> str:
        """Its code."""
        return row.template.code if row.template else "the event's own"

    @admin.display(description="limits")
    def limits_shown(self, row: Rule) -> str:
        """When it sends nothing."""
        return limits(row)

    @admin.display(description="state", ordering="is_active")
    def state(self, row: Rule) -> SafeString:
        """A badge."""
        return _state(row)
