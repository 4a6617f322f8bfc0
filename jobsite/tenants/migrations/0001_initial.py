"""Tenants, their members, their API keys, and the audit."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Tenant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, db_default="", editable=False, max_length=150)),
                ("paused_reason", models.TextField(blank=True, db_default="", editable=False)),
                ("paused_until", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "code",
                    models.CharField(
                        max_length=100,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9_.-]{0,99}\\Z",
                                "A code is up to 100 lower-case letters, digits, and _ . - inside.",
                            )
                        ],
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("language", models.CharField(db_default="en", default="en", max_length=16)),
                ("time_zone", models.CharField(db_default="UTC", default="UTC", max_length=64)),
                (
                    "status",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("SUSPENDED", "Suspended")],
                        db_default="ACTIVE",
                        default="ACTIVE",
                        max_length=9,
                    ),
                ),
                (
                    "weight",
                    models.PositiveSmallIntegerField(
                        db_default=1,
                        default=1,
                        help_text="Its share of each queue.",
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                ("pending_quota", models.PositiveIntegerField(blank=True, null=True)),
                ("running_quota", models.PositiveIntegerField(blank=True, null=True)),
                ("submissions_per_minute", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "retention_days",
                    models.PositiveIntegerField(
                        db_default=90, default=90, validators=[django.core.validators.MinValueValidator(1)]
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "jobsite_tenant",
                "ordering": ["code"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["ACTIVE", "SUSPENDED"])), name="tenant_status_known"
                    ),
                    models.CheckConstraint(condition=models.Q(("weight__gte", 1)), name="tenant_weight_positive"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("code", "system"), _negated=True), ("status", "ACTIVE"), _connector="OR"
                        ),
                        name="tenant_system_never_suspended",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="memberships",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[("VIEWER", "Viewer"), ("OPERATOR", "Operator"), ("ADMIN", "Admin")],
                        default="VIEWER",
                        max_length=8,
                    ),
                ),
                (
                    "language",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        help_text="Such as de-AT. Empty: the tenant's.",
                        max_length=16,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "jobsite_membership",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "user"), name="membership_once_per_tenant"),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", ["VIEWER", "OPERATOR", "ADMIN"])), name="membership_role_known"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ApiKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="api_keys",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_keys",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("prefix", models.CharField(editable=False, max_length=12, unique=True)),
                ("digest", models.CharField(editable=False, max_length=64)),
                ("scopes", models.JSONField()),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                "verbose_name": "API key",
                "db_table": "jobsite_apikey",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("digest__regex", "^[0-9a-f]{64}$")), name="apikey_digest_is_sha256"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobsite_tenants.tenant"
                    ),
                ),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("actor", models.CharField(max_length=150)),
                ("door", models.CharField(max_length=10)),
                ("action", models.CharField(max_length=50)),
                ("target_type", models.CharField(max_length=30)),
                ("target", models.CharField(max_length=200)),
                ("reason", models.TextField(db_default="")),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "db_table": "jobsite_auditentry",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(fields=["tenant", "target_type", "target", "id"], name="audit_of_target"),
                    models.Index(fields=["tenant", "id"], name="audit_of_tenant"),
                ],
            },
        ),
    ]
