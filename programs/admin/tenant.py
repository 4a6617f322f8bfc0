"""The pages of tenants, memberships and API keys."""

import re
import zoneinfo
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN, PLATFORM, access_of
from jobsite.admin.base import TenantScopedAdmin
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.programs.operations import pausing
from jobsite.tenants import setup
from jobsite.tenants.models import SYSTEM, ApiKey, Membership, Role, Tenant

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
MAX_RETENTION_DAYS = 36_500
OWN_SETTINGS = ("name", "language", "time_zone", "retention_days")
"""What a tenant's ADMIN sets; the platform sets the rest."""
STATE = ("status_shown", "pause")
SET_UP = ("code", "name", "language", "time_zone")
"""What setup.create takes."""


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]
    """A tenant's settings; a wrong value is refused here, because it would do harm only much later."""

    def clean_time_zone(self) -> str:
        """An IANA name."""
        name: str = self.cleaned_data["time_zone"]
        if name not in zoneinfo.available_timezones():
            raise forms.ValidationError("This is not an IANA time zone such as Europe/Berlin.")
        return name

    def clean_language(self) -> str:
        """A language tag."""
        language: str = self.cleaned_data["language"]
        if not LANGUAGE.fullmatch(language):
            raise forms.ValidationError('This is not a language such as "en" or "pt-BR".')
        return language

    def clean_retention_days(self) -> int:
        """A number of days that the database can count with."""
        days: int = self.cleaned_data["retention_days"]
        if days > MAX_RETENTION_DAYS:
            raise forms.ValidationError(f"At most {MAX_RETENTION_DAYS} days.")
        return days


ACTS = (
    RowAct(
        "suspend",
        "Suspend",
        "All its jobs wait, and so do those that are submitted from now on. Running jobs go on to their end. No job "
        "fails or is lost, and members can still look, submit and cancel.",
        run=pausing.suspend_tenant,
        said="is suspended; its jobs wait",
        applies=lambda tenant: tenant.status == "ACTIVE" and tenant.code != SYSTEM,
        scope=PLATFORM,
        asks=("reason", "until"),
    ),
    RowAct(
        "resume",
        "Resume",
        "Waiting jobs start as soon as they are due and there is room, except those of programs and queues that are "
        "paused themselves.",
        run=pausing.resume_tenant,
        said="goes on",
        applies=lambda tenant: tenant.status == "SUSPENDED",
        scope=PLATFORM,
    ),
)


@admin.register(Tenant)
class TenantAdmin(ActedAdmin[Tenant]):
    """Members see their tenants, and an ADMIN sets what is a tenant's own; the platform sets the rest."""

    tenant_path = "pk"
    add_scope = PLATFORM
    change_scope = ADMIN
    form = TenantForm
    empty_hint = display.words("No tenants yet: make one here, or with `jobsite tenants create CODE`.")
    list_display = (
        "code",
        "name",
        "status_shown",
        "language",
        "time_zone",
        "retention_days",
        display.moments("created_at", "created (UTC)"),
    )
    search_fields = ("code", "name")
    search_help_text = "A code or a name, or a part of it."
    fieldsets = (
        (None, {"fields": ("code", *OWN_SETTINGS)}),
        ("State", {"fields": STATE}),
        (
            "Set by the platform",
            {"fields": ("weight", "pending_quota", "running_quota", "submissions_per_minute")},
        ),
    )
    row_acts = ACTS

    def tenant_id_of(self, obj: Model) -> int | None:
        """The row itself."""
        key: int = obj.pk
        return key

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """By role; nobody may change the tenant `system`."""
        if isinstance(obj, Tenant) and obj.code == SYSTEM:
            return False
        return super().has_change_permission(request, obj)

    def target_of(self, row: Tenant) -> tuple[object, ...]:
        """Nothing: the principal already names the tenant."""
        return ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the state of a tenant that is not made yet."""
        return self.fieldsets if obj else [one for one in self.fieldsets if one[1]["fields"] != STATE]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """The code, the state (acts change it) and, for a tenant's ADMIN, all that the platform sets."""
        if obj is None:
            return []
        if access_of(request).is_platform:
            return ["code", *STATE]
        return [name for name in flatten_fieldsets(self.fieldsets) if name not in OWN_SETTINGS]

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """A new tenant gets what every application adds to one (jobsite/tenants/setup.py)."""
        if not change:
            made = setup.create(**{name: form.cleaned_data[name] for name in SET_UP})
            obj.pk, obj.created_at = made.pk, made.created_at
            obj._state.adding = False
            obj.save(update_fields=[name for name in form.cleaned_data if name not in SET_UP])
            self.record(request, obj, "created", None, dict(form.cleaned_data))
            return
        super().save_model(request, obj, form, change)

    @admin.display(description="status", ordering="status")
    def status_shown(self, tenant: Tenant) -> SafeString:
        """A badge."""
        return display.badge(tenant.status)

    @admin.display(description="suspended")
    def pause(self, tenant: Tenant) -> str | SafeString:
        """Since when, by whom, why, until when."""
        return display.pause(tenant)


class NewMemberForm(forms.ModelForm):  # type: ignore[type-arg]
    """A user is named exactly: no list of users is ever shown."""

    who = forms.CharField(label="User", max_length=254, help_text="The exact user name or e-mail address.")

    def clean(self) -> dict[str, Any]:
        """Find the user, who must not be a member yet."""
        values = super().clean() or self.cleaned_data
        who, tenant = values.get("who"), values.get("tenant")
        if who is None or tenant is None:
            return values
        user = _find_user(who)
        if Membership.objects.filter(tenant=tenant, user=user).exists():
            raise forms.ValidationError(f"{user.get_username()} is a member of {tenant.code} already.")
        self.instance.user = user
        return values


def _find_user(who: str) -> User:
    users = User.objects.filter(is_active=True)
    found = list(users.filter(username=who)[:1]) or list(users.filter(email__iexact=who)[:2])
    if not found:
        raise forms.ValidationError({"who": "No active user has exactly this name or address."})
    if len(found) > 1:
        raise forms.ValidationError({"who": "Several users have this address; give the user name."})
    return found[0]


@admin.register(Membership)
class MembershipAdmin(TenantScopedAdmin[Membership]):
    """Who is in a tenant, in which role; an ADMIN adds, changes and removes the members of a tenant."""

    add_scope = change_scope = delete_scope = ADMIN
    empty_hint = "No memberships yet: add a user by exact name or e-mail address."
    list_display = ("user", "tenant", "role_shown", display.moments("created_at", "since (UTC)"))
    list_display_links = ("user",)
    list_filter = (choice_filter("role", "role", Role.choices), TenantFilter)
    list_select_related = ("user", "tenant")
    search_fields = ("user__username",)
    search_help_text = "A user name, or a part of it."
    ordering = ("tenant__code", "user__username")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new member is named; later only the role changes."""
        return ("tenant", "who", "role") if obj is None else ("tenant", "user", "role", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Iterable[str]:  # type: ignore[override]
        """All but the role, once there is a membership."""
        return () if obj is None else ("tenant", "user", "created_at")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """The form that finds a user, for a new member."""
        if obj is None:
            kwargs["form"] = NewMemberForm
        return super().get_form(request, obj, change, **kwargs)

    def audit_target(self, obj: Model) -> str:
        """The user's name."""
        return str(obj.user) if isinstance(obj, Membership) else str(obj)

    def audited(self, obj: Membership) -> dict[str, object]:
        """The role that was lost."""
        return {"role": obj.role}

    @admin.display(description="role", ordering="role")
    def role_shown(self, membership: Membership) -> SafeString:
        """A badge."""
        return display.badge(membership.role)


@admin.register(ApiKey)
class ApiKeyAdmin(TenantScopedAdmin[ApiKey]):
    """The keys of a tenant, for its ADMINs; only the prefix of a key is known."""

    view_scope = ADMIN
    empty_hint = display.words("No API keys yet: make one with `jobsite apikeys create`.")
    list_display = (
        "prefix",
        "name",
        "user",
        "tenant",
        "scopes_shown",
        display.moments("expires_at", "expires (UTC)"),
        display.moments("last_used_at", "last used (UTC)"),
        display.moments("revoked_at", "revoked (UTC)"),
    )
    list_filter = (TenantFilter,)
    list_select_related = ("user", "tenant")
    search_fields = ("=prefix", "user__username")
    search_help_text = "A key's prefix, or a user's name."
    ordering = ("-id",)
    fields = (
        "prefix",
        "name",
        "user",
        "tenant",
        "scopes_shown",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All of them."""
        return self.fields

    @admin.display(description="scopes")
    def scopes_shown(self, key: ApiKey) -> str:
        """Their names."""
        return ", ".join(key.scopes)
