"""Schedules, and a row for each of their nominal times."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


SAME_TENANT = """
ALTER TABLE jobsite_schedule ADD CONSTRAINT schedule_program_of_same_tenant
    FOREIGN KEY (tenant_id, program_id) REFERENCES jobsite_program (tenant_id, id);
ALTER TABLE jobsite_firing ADD CONSTRAINT firing_schedule_of_same_tenant
    FOREIGN KEY (tenant_id, schedule_id) REFERENCES jobsite_schedule (tenant_id, id) ON DELETE CASCADE;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("jobsite_programs", "0012_children"),
        ("jobsite_tenants", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Schedule",
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
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9_.-]{0,99}\\Z",
                                "A code is up to 100 lower-case letters, digits, and _ . - inside.",
                            )
                        ],
                    ),
                ),
                ("description", models.TextField(blank=True, db_default="", default="")),
                ("minute", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("hour", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("day_of_month", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("month", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("day_of_week", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("interval_minutes", models.PositiveIntegerField(blank=True, null=True)),
                ("anchor_at", models.DateTimeField(editable=False)),
                ("time_zone", models.CharField(max_length=64)),
                ("jitter_minutes", models.PositiveSmallIntegerField(blank=True, db_default=0, default=0)),
                ("starts_at", models.DateTimeField(blank=True, null=True)),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("parameters", models.JSONField(blank=True, default=dict)),
                ("priority", models.SmallIntegerField(blank=True, null=True)),
                (
                    "overlap",
                    models.CharField(
                        choices=[("ALLOW", "ALLOW"), ("SKIP", "SKIP")],
                        db_default="ALLOW",
                        default="ALLOW",
                        max_length=5,
                    ),
                ),
                (
                    "missed",
                    models.CharField(
                        choices=[("SKIP", "SKIP"), ("ONE", "ONE"), ("ALL", "ALL")],
                        db_default="ONE",
                        default="ONE",
                        max_length=4,
                    ),
                ),
                ("missed_cap", models.PositiveSmallIntegerField(db_default=10, default=10)),
                ("kind", models.CharField(editable=False, max_length=6)),
                ("owner", models.CharField(editable=False, max_length=150)),
                ("next_at", models.DateTimeField(editable=False, null=True)),
                ("due_at", models.DateTimeField(editable=False, null=True)),
                ("retry_at", models.DateTimeField(editable=False, null=True)),
                ("late_at", models.DateTimeField(editable=False, null=True)),
                ("fired_at", models.DateTimeField(editable=False, null=True)),
                ("last_job", models.BigIntegerField(editable=False, null=True)),
                ("problem", models.TextField(db_default="", editable=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("deleted_at", models.DateTimeField(editable=False, null=True)),
                (
                    "program",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedules",
                        to="jobsite_programs.program",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedules",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "db_table": "jobsite_schedule",
                "ordering": ["code"],
            },
        ),
        migrations.CreateModel(
            name="Firing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("nominal_at", models.DateTimeField()),
                ("through", models.DateTimeField(null=True)),
                (
                    "result",
                    models.CharField(
                        choices=[("FIRED", "Fired"), ("SKIPPED", "Skipped"), ("MISSED", "Missed")], max_length=7
                    ),
                ),
                ("reason", models.TextField(db_default="")),
                ("was_missed", models.BooleanField(db_default=False)),
                ("is_backfill", models.BooleanField(db_default=False)),
                ("job_number", models.BigIntegerField(null=True)),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
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
                    "schedule",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="firings",
                        to="jobsite_programs.schedule",
                    ),
                ),
            ],
            options={
                "db_table": "jobsite_firing",
                "ordering": ["-nominal_at"],
            },
        ),
        migrations.AddIndex(
            model_name="schedule",
            index=models.Index(
                condition=models.Q(("due_at__isnull", False)), fields=["due_at", "id"], name="schedule_due"
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.UniqueConstraint(
                condition=models.Q(("deleted_at__isnull", True)),
                fields=("tenant", "code"),
                name="schedule_code_once_per_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="schedule_tenant_and_id"),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("day_of_month__gt", ""),
                        ("day_of_week__gt", ""),
                        ("hour__gt", ""),
                        ("interval_minutes__isnull", True),
                        ("minute__gt", ""),
                        ("month__gt", ""),
                    ),
                    models.Q(
                        ("day_of_month", ""),
                        ("day_of_week", ""),
                        ("hour", ""),
                        ("interval_minutes__gte", 1),
                        ("interval_minutes__isnull", False),
                        ("interval_minutes__lte", 10080),
                        ("minute", ""),
                        ("month", ""),
                    ),
                    _connector="OR",
                ),
                name="schedule_by_cron_or_interval",
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("jitter_minutes__lte", 59)), name="schedule_jitter_within_an_hour"
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("priority__isnull", True),
                    models.Q(("priority__gte", -100), ("priority__lte", 100)),
                    _connector="OR",
                ),
                name="schedule_priority_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("missed__in", ["SKIP", "ONE", "ALL"]),
                    ("missed_cap__gte", 1),
                    ("overlap__in", ["ALLOW", "SKIP"]),
                    ("missed_cap__lte", 100),
                ),
                name="schedule_policies_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="schedule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("due_at__isnull", True), ("next_at__isnull", True)),
                    models.Q(
                        ("deleted_at__isnull", True),
                        ("due_at__gte", models.F("next_at")),
                        ("due_at__isnull", False),
                        ("next_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="schedule_due_after_its_nominal_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="firing",
            constraint=models.UniqueConstraint(fields=("schedule", "nominal_at"), name="firing_once_per_nominal_time"),
        ),
        migrations.AddConstraint(
            model_name="firing",
            constraint=models.UniqueConstraint(
                condition=models.Q(("job_number__isnull", False)), fields=("job_number",), name="firing_one_for_a_job"
            ),
        ),
        migrations.AddConstraint(
            model_name="firing",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("job_number__isnull", False), ("result", "FIRED")),
                    models.Q(("job_number__isnull", True), ("result__in", ["SKIPPED", "MISSED"])),
                    _connector="OR",
                ),
                name="firing_fired_has_a_job",
            ),
        ),
        migrations.AddConstraint(
            model_name="firing",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("through__isnull", True),
                    models.Q(("result", "MISSED"), ("through__gt", models.F("nominal_at"))),
                    _connector="OR",
                ),
                name="firing_only_missed_times_are_a_stretch",
            ),
        ),
        migrations.RunSQL(SAME_TENANT, migrations.RunSQL.noop),
    ]
