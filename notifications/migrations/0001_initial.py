"""Groups, templates, rules and deliveries."""

import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("jobsite_tenants", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_groups",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "code",
                    models.CharField(
                        max_length=100,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9_.-]{0,99}\\Z",
                                "A code is up to 100 lower-case letters, digits, and _ . - inside.",
                            )
                        ],
                    ),
                ),
                ("name", models.CharField(blank=True, db_default="", default="", max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                "verbose_name": "notification group",
                "db_table": "jobsite_group",
                "ordering": ["code"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("tenant", "code"),
                        name="group_code_once_per_tenant",
                    ),
                    models.UniqueConstraint(fields=("tenant", "id"), name="group_tenant_and_id"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Template",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_templates",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "code",
                    models.CharField(
                        max_length=100,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9_.-]{0,99}\\Z",
                                "A code is up to 100 lower-case letters, digits, and _ . - inside.",
                            )
                        ],
                    ),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("SUBMITTED", "SUBMITTED"),
                            ("STARTED", "STARTED"),
                            ("RETRYING", "RETRYING"),
                            ("COMPLETED", "COMPLETED"),
                            ("FAILED", "FAILED"),
                            ("CANCELED", "CANCELED"),
                            ("LATE", "LATE"),
                            ("STUCK", "STUCK"),
                            ("RECOVERED", "RECOVERED"),
                            ("PROGRAM_TERMINATED", "PROGRAM_TERMINATED"),
                            ("SCHEDULE_MISSED", "SCHEDULE_MISSED"),
                            ("SCHEDULE_RECOVERED", "SCHEDULE_RECOVERED"),
                        ],
                        max_length=20,
                    ),
                ),
                ("is_default", models.BooleanField(db_default=False, default=False, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
            ],
            options={
                "verbose_name": "notification template",
                "db_table": "jobsite_template",
                "ordering": ["code"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("tenant", "code"),
                        name="template_code_once_per_tenant",
                    ),
                    models.UniqueConstraint(fields=("tenant", "id"), name="template_tenant_and_id"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_default", True)),
                        fields=("tenant", "event"),
                        name="template_one_default_per_event",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("is_default", False), ("deleted_at__isnull", True), _connector="OR"),
                        name="template_default_stays",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event__in",
                                [
                                    "SUBMITTED",
                                    "STARTED",
                                    "RETRYING",
                                    "COMPLETED",
                                    "FAILED",
                                    "CANCELED",
                                    "LATE",
                                    "STUCK",
                                    "RECOVERED",
                                    "PROGRAM_TERMINATED",
                                    "SCHEDULE_MISSED",
                                    "SCHEDULE_RECOVERED",
                                ],
                            )
                        ),
                        name="template_event_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Translation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "template",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="translations",
                        to="jobsite_notifications.template",
                    ),
                ),
                (
                    "language",
                    models.CharField(choices=[("en", "en"), ("de", "de"), ("fr", "fr"), ("es", "es")], max_length=2),
                ),
                ("subject", models.TextField()),
                ("text", models.TextField()),
                ("html", models.TextField(blank=True, db_default="", default="")),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "jobsite_translation",
                "ordering": ["language"],
                "constraints": [
                    models.UniqueConstraint(fields=("template", "language"), name="translation_once_per_language"),
                    models.CheckConstraint(
                        condition=models.Q(("language__in", ("en", "de", "fr", "es"))),
                        name="translation_language_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_rules",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rules",
                        to="jobsite_notifications.group",
                    ),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("SUBMITTED", "SUBMITTED"),
                            ("STARTED", "STARTED"),
                            ("RETRYING", "RETRYING"),
                            ("COMPLETED", "COMPLETED"),
                            ("FAILED", "FAILED"),
                            ("CANCELED", "CANCELED"),
                            ("LATE", "LATE"),
                            ("STUCK", "STUCK"),
                            ("PROGRAM_TERMINATED", "PROGRAM_TERMINATED"),
                            ("SCHEDULE_MISSED", "SCHEDULE_MISSED"),
                            ("SCHEDULE_RECOVERED", "SCHEDULE_RECOVERED"),
                            ("COMPLETED+NORMAL", "COMPLETED+NORMAL"),
                            ("COMPLETED+WARNING", "COMPLETED+WARNING"),
                            ("COMPLETED+ERROR", "COMPLETED+ERROR"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("email", "email"), ("webhook", "webhook"), ("inbox", "inbox")],
                        default="email",
                        max_length=7,
                    ),
                ),
                (
                    "template",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="Empty: the event's own.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="rules",
                        to="jobsite_notifications.template",
                    ),
                ),
                ("to_submitter", models.BooleanField(db_default=False, default=False)),
                (
                    "to_roles",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[("VIEWER", "Viewer"), ("OPERATOR", "Operator"), ("ADMIN", "Admin")], max_length=8
                        ),
                        blank=True,
                        db_default=[],
                        default=list,
                        size=None,
                    ),
                ),
                (
                    "to_addresses",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=254), blank=True, db_default=[], default=list, size=None
                    ),
                ),
                ("to_url", models.TextField(blank=True, db_default="", default="")),
                ("secret", models.JSONField(blank=True, editable=False, null=True)),
                (
                    "throttle_minutes",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10080),
                        ],
                    ),
                ),
                (
                    "in_a_row",
                    models.PositiveSmallIntegerField(
                        db_default=1,
                        default=1,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                ("on_recovery", models.BooleanField(db_default=False, default=False)),
                ("is_active", models.BooleanField(db_default=True, default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("to_users", models.ManyToManyField(blank=True, related_name="+", to=settings.AUTH_USER_MODEL)),
            ],
            options={
                "db_table": "jobsite_rule",
                "ordering": ["group", "id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("deleted_at__isnull", True), ("is_active", True)),
                        fields=["group", "event"],
                        name="rule_of_event",
                    ),
                    models.Index(
                        condition=models.Q(("deleted_at__isnull", True), ("is_active", True), ("on_recovery", True)),
                        fields=["group", "event"],
                        name="rule_of_recovery",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="rule_tenant_and_id"),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event__in",
                                (
                                    "SUBMITTED",
                                    "STARTED",
                                    "RETRYING",
                                    "COMPLETED",
                                    "FAILED",
                                    "CANCELED",
                                    "LATE",
                                    "STUCK",
                                    "PROGRAM_TERMINATED",
                                    "SCHEDULE_MISSED",
                                    "SCHEDULE_RECOVERED",
                                    "COMPLETED+NORMAL",
                                    "COMPLETED+WARNING",
                                    "COMPLETED+ERROR",
                                ),
                            )
                        ),
                        name="rule_event_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("channel__in", ["email", "webhook", "inbox"])), name="rule_channel_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("in_a_row", 1),
                            models.Q(("in_a_row__gt", 1), ("event__in", ("FAILED", "COMPLETED+ERROR"))),
                            _connector="OR",
                        ),
                        name="rule_counts_failures_alone",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("on_recovery", False),
                            ("event__in", ["FAILED", "COMPLETED+ERROR", "SCHEDULE_MISSED"]),
                            _connector="OR",
                        ),
                        name="rule_tells_recovery_of_trouble",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("throttle_minutes__isnull", True), ("throttle_minutes__gte", 1), _connector="OR"
                        ),
                        name="rule_throttle_positive",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("channel", "webhook"),
                                ("to_addresses", []),
                                ("to_roles", []),
                                ("to_submitter", False),
                                models.Q(("to_url", ""), _negated=True),
                            ),
                            models.Q(
                                models.Q(("channel", "webhook"), _negated=True),
                                ("secret__isnull", True),
                                ("to_url", ""),
                            ),
                            _connector="OR",
                        ),
                        name="rule_recipients_fit_its_channel",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("channel", "inbox"), _negated=True), ("to_addresses", []), _connector="OR"
                        ),
                        name="rule_inbox_has_no_address",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "rule",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="deliveries",
                        to="jobsite_notifications.rule",
                    ),
                ),
                ("dedupe_key", models.TextField()),
                (
                    "identity",
                    models.UUIDField(db_default=django.contrib.postgres.functions.RandomUUID(), editable=False),
                ),
                ("event", models.CharField(max_length=20)),
                ("source", models.TextField()),
                ("job_number", models.BigIntegerField(null=True)),
                ("program_id", models.BigIntegerField(null=True)),
                ("schedule_id", models.BigIntegerField(null=True)),
                ("happened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("details", models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)),
                ("channel", models.CharField(max_length=7)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("address", models.TextField(db_default="", default="")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "PENDING"),
                            ("SENT", "SENT"),
                            ("FAILED", "FAILED"),
                            ("SUPPRESSED", "SUPPRESSED"),
                        ],
                        db_default="PENDING",
                        default="PENDING",
                        max_length=10,
                    ),
                ),
                ("due_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("hinted_at", models.DateTimeField(null=True)),
                ("attempts", models.PositiveSmallIntegerField(db_default=0, default=0)),
                ("lock_token", models.UUIDField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("reason", models.TextField(db_default="", default="")),
                ("language", models.CharField(db_default="", default="", max_length=16)),
                ("subject", models.TextField(db_default="", default="")),
                ("text", models.TextField(db_default="", default="")),
                ("read_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "db_table": "jobsite_delivery",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(condition=models.Q(("status", "PENDING")), fields=["due_at"], name="delivery_due"),
                    models.Index(
                        condition=models.Q(("job_number__isnull", False)), fields=["job_number"], name="delivery_of_job"
                    ),
                    models.Index(fields=["rule", "source", "id"], name="delivery_of_rule"),
                    models.Index(
                        condition=models.Q(("status", "SUPPRESSED"), _negated=True),
                        fields=["rule", "source", "id"],
                        name="delivery_told",
                    ),
                    models.Index(fields=["tenant", "id"], name="delivery_of_tenant"),
                    models.Index(
                        condition=models.Q(("job_number__isnull", True)),
                        fields=["tenant", "finished_at"],
                        name="delivery_without_job",
                    ),
                    models.Index(
                        condition=models.Q(("channel", "inbox"), ("status", "SENT")),
                        fields=["tenant", "user", "id"],
                        name="delivery_in_inbox",
                    ),
                    models.Index(
                        condition=models.Q(("channel", "inbox"), ("read_at__isnull", True), ("status", "SENT")),
                        fields=["tenant", "user", "id"],
                        name="delivery_unread",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("dedupe_key",), name="delivery_once_per_key"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["PENDING", "SENT", "FAILED", "SUPPRESSED"])),
                        name="delivery_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event__in",
                                [
                                    "SUBMITTED",
                                    "STARTED",
                                    "RETRYING",
                                    "COMPLETED",
                                    "FAILED",
                                    "CANCELED",
                                    "LATE",
                                    "STUCK",
                                    "RECOVERED",
                                    "PROGRAM_TERMINATED",
                                    "SCHEDULE_MISSED",
                                    "SCHEDULE_RECOVERED",
                                ],
                            )
                        ),
                        name="delivery_event_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("channel__in", ["email", "webhook", "inbox"])),
                        name="delivery_channel_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("finished_at__isnull", True), ("status", "PENDING")),
                            models.Q(
                                models.Q(("status", "PENDING"), _negated=True),
                                ("finished_at__isnull", False),
                                ("lock_token__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="delivery_finished_unless_pending",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("address", ""), ("user__isnull", False)),
                            models.Q(("user__isnull", True), models.Q(("address", ""), _negated=True)),
                            _connector="OR",
                        ),
                        name="delivery_to_a_user_or_an_address",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("channel", "inbox"), _negated=True), ("user__isnull", False), _connector="OR"
                        ),
                        name="delivery_inbox_is_a_users",
                    ),
                ],
            },
        ),
    ]
