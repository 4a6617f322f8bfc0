"""Who owns what: tenants, the people in them with their roles, and their API keys."""

import re
from typing import ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

CODE_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
CODE = RegexValidator(
    rf"^{CODE_PATTERN.pattern}\Z",
    "A code is up to 100 lower-case letters, digits, and _ . - inside.",
)
SYSTEM = "system"


class Pausable(models.Model):
    """A pause: since when, by whom, why, until when. The same fields for everything that can be paused."""

    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=150, blank=True, db_default="", editable=False)
    paused_reason = models.TextField(blank=True, db_default="", editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True


class Tenant(Pausable):
    """An organisation. Everything but system programs belongs to exactly one."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        SUSPENDED = "SUSPENDED"

    code = models.CharField(max_length=100, unique=True, validators=[CODE])
    name = models.CharField(max_length=200)
    language = models.CharField(max_length=16, db_default="en", default="en")
    time_zone = models.CharField(max_length=64, db_default="UTC", default="UTC")
    status = models.CharField(max_length=9, choices=Status, db_default=Status.ACTIVE, default=Status.ACTIVE)
    weight = models.PositiveSmallIntegerField(
        db_default=1, default=1, validators=[MinValueValidator(1)], help_text="Its share of each queue."
    )
    pending_quota = models.PositiveIntegerField(null=True, blank=True)
    running_quota = models.PositiveIntegerField(null=True, blank=True)
    submissions_per_minute = models.PositiveIntegerField(null=True, blank=True)
    retention_days = models.PositiveIntegerField(db_default=90, default=90, validators=[MinValueValidator(1)])
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "jobsite_tenant"
        ordering: ClassVar = ["code"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(status__in=["ACTIVE", "SUSPENDED"]), name="tenant_status_known"),
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="tenant_weight_positive"),
            models.CheckConstraint(
                condition=~models.Q(code=SYSTEM) | models.Q(status="ACTIVE"),
                name="tenant_system_never_suspended",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Role(models.TextChoices):
    """What a member may do. Each role includes the scopes of the roles before it."""

    VIEWER = "VIEWER"
    OPERATOR = "OPERATOR"
    ADMIN = "ADMIN"


SCOPES: dict[str, tuple[str, ...]] = {
    Role.VIEWER: ("jobs:read",),
    Role.OPERATOR: ("jobs:read", "jobs:write"),
    Role.ADMIN: ("jobs:read", "jobs:write", "jobs:admin"),
}
ALL_SCOPES = SCOPES[Role.ADMIN]


class Membership(models.Model):
    """A user's role in a tenant."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role, default=Role.VIEWER)
    language = models.CharField(
        max_length=16, blank=True, db_default="", default="", help_text="Such as de-AT. Empty: the tenant's."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "jobsite_membership"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_once_per_tenant"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} as {self.role}"


class ApiKey(models.Model):
    """A key of one user in one tenant. Only its prefix and SHA-256 are stored."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="api_keys")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "jobsite_apikey"
        verbose_name = "API key"
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(digest__regex=r"^[0-9a-f]{64}$"), name="apikey_digest_is_sha256"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class AuditEntry(models.Model):
    """Who did what, when, why, and through which door. The database refuses to change or delete an entry."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)
    door = models.CharField(max_length=10)
    action = models.CharField(max_length=50)
    target_type = models.CharField(max_length=30)
    target = models.CharField(max_length=200)
    reason = models.TextField(db_default="")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        db_table = "jobsite_auditentry"
        verbose_name_plural = "audit entries"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "target_type", "target", "id"], name="audit_of_target"),
            models.Index(fields=["tenant", "id"], name="audit_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target_type} {self.target}"
