"""The form of a rule; the domain says which field is wrong, and why."""

import re
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.db.models import Q

from jobsite.admin import display
from jobsite.admin.access import ADMIN, Access
from jobsite.errors import Invalid, Refusal
from jobsite.notifications import operations, rules
from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.events import RULE_EVENTS
from jobsite.notifications.models import Group, Rule, Template
from jobsite.notifications.models.group import MAX_IN_A_ROW, MAX_THROTTLE_MINUTES
from jobsite.notifications.rules import Wanted
from jobsite.tenants.models import Role
from jobsite.tenants.principals import Principal

WHEN = ("event", "in_a_row", "on_recovery", "throttle_minutes")
TO = ("to_submitter", "to_roles", "to_users", "to_addresses")
HOW = ("channel", "to_url", "template")
FIELDS = (*WHEN, *TO, *HOW, "is_active")


class LinesField(forms.CharField):
    """Names or addresses, one per line or separated by commas."""

    widget = forms.Textarea(attrs={"rows": 2, "cols": 60})

    def to_python(self, value: Any) -> Any:
        """Each without the space around it."""
        given = super().to_python(value) or ""
        return tuple(one for one in (part.strip() for part in re.split(r"[\n,]", given)) if one)

    def prepare_value(self, value: Any) -> Any:
        """One per line."""
        return value if value is None or isinstance(value, str) else "\n".join(value)


class _TenantChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A group or template; with its tenant, where the user sees several."""

    shows_tenant = False

    def label_from_instance(self, obj: Any) -> str:
        name = f"{obj.code} ({obj.event})" if isinstance(obj, Template) else obj.code
        return f"{name} – {obj.tenant.code}" if self.shows_tenant else name


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rule's fields, as the domain wants them."""

    principal_in: ClassVar[partial[Principal]]
    access: ClassVar[Access]
    """Who sends the form: set by the page, which makes a class of its own for each request."""

    group = _TenantChoice(Group.objects.none(), help_text="The rules of a group apply to all programs that name it.")
    event = forms.ChoiceField(
        choices=[("", "---------"), *((one, one) for one in RULE_EVENTS)],
        help_text="A status, or COMPLETED with the outcome NORMAL, WARNING or ERROR, or what happened to a program "
        "or schedule.",
    )
    in_a_row = forms.IntegerField(
        initial=1,
        label="After N in a row",
        help_text=f"For FAILED and COMPLETED+ERROR: only after this many in a row of a program; 1 to {MAX_IN_A_ROW}.",
    )
    on_recovery = forms.BooleanField(
        required=False,
        label="On recovery too",
        help_text="For FAILED, COMPLETED+ERROR and SCHEDULE_MISSED: notifies also when it goes well again.",
    )
    throttle_minutes = forms.IntegerField(
        required=False,
        label="At most one in",
        help_text=f"Minutes, 1 to {MAX_THROTTLE_MINUTES:,}, for each recipient and program; the next one says how "
        "many were left out. Empty: all are sent.",
    )
    to_submitter = forms.BooleanField(
        required=False,
        label="The submitter",
        help_text="Whoever submitted the job; for a scheduled job, the owner of the schedule.",
    )
    to_roles = forms.MultipleChoiceField(
        required=False,
        label="Roles",
        choices=[(role, role) for role in Role.values],
        widget=forms.CheckboxSelectMultiple,
        help_text="All members who have it when something happens.",
    )
    to_users = LinesField(required=False, label="Users", help_text="User names of members, one per line.")
    to_addresses = LinesField(
        required=False, label="E-mail addresses", help_text="One per line; only for the channel email."
    )
    channel = forms.ChoiceField(
        choices=[(name, name) for name in CHANNELS],
        initial="email",
        help_text="A webhook goes to its URL, and to none of the recipients above.",
    )
    to_url = forms.CharField(
        required=False,
        label="URL",
        widget=forms.TextInput(attrs={"size": 70}),
        help_text="Only for the channel webhook. It is signed (Standard Webhooks) with a secret that is shown once, "
        "when the rule is saved.",
    )
    template = _TenantChoice(
        Template.objects.none(), required=False, empty_label="the event's own", help_text="The words that are sent."
    )
    is_active = forms.BooleanField(
        required=False, initial=True, label="Active", help_text="While it is off, nobody is notified by it."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenants = self.access.tenants_to_choose(ADMIN)
        kept: Rule | None = self.instance if self.instance.pk else None
        if kept is not None:
            self.initial.update({name: getattr(operations.wanted_of(kept), name) for name in FIELDS})
            self.initial["template"] = kept.template_id
            tenants = tenants.filter(pk=kept.tenant_id)
        templates = Template.objects.filter(deleted_at__isnull=True, tenant__in=tenants).select_related("tenant")
        # Without a template, a rule uses the event's own; that one is offered only where the rule names it already.
        chosen = Q(pk=kept.template_id) if kept is not None else Q()
        self._offer("template", templates.filter(Q(is_default=False) | chosen if chosen else Q(is_default=False)))
        if "group" in self.fields:
            self._offer(
                "group", Group.objects.filter(deleted_at__isnull=True, tenant__in=tenants).select_related("tenant")
            )

    def _offer(self, name: str, rows: Any) -> None:
        field: Any = self.fields[name]
        field.queryset = rows.order_by("code", "pk")
        field.shows_tenant = self.access.sees_several

    def _post_clean(self) -> None:
        """Do nothing: the domain checks and writes the fields, and the row on the page stays as it is."""

    def clean(self) -> dict[str, Any]:
        """All fields together, as the domain sees them."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        group = self.instance.group if self.instance.pk else cleaned.get("group")
        if self.errors or group is None:
            return cleaned
        try:
            rules.check(group.tenant, self.wanted())
        except Invalid as error:
            self._show(error)
        except Refusal as error:
            self.add_error(None, display.sentence(error))
        return cleaned

    def _show(self, error: Invalid) -> None:
        wrong = error.details.get("errors")
        for one in wrong if isinstance(wrong, list) else [{"pointer": "", "message": str(error)}]:
            name = one["pointer"][1:]
            self.add_error(name if name in self.fields else None, display.sentence(one["message"]))

    def wanted(self) -> Wanted:
        """What the form asks for."""
        given = {name: self.cleaned_data[name] for name in FIELDS}
        template = given["template"]
        return Wanted(**given | {"template": template.code if template else "", "to_roles": tuple(given["to_roles"])})
