"""Programs, jobs and schedules, queues and workers."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("jobsite_notifications", "0001_initial"),
        ("jobsite_tenants", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Queue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, db_default="", editable=False, max_length=150)),
                ("paused_reason", models.TextField(blank=True, db_default="", editable=False)),
                ("paused_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("name", models.CharField(max_length=63, unique=True)),
                ("virtual_time", models.FloatField(db_default=0.0, editable=False)),
                ("broker_epoch", models.UUIDField(editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "jobsite_queue",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Program",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, db_default="", editable=False, max_length=150)),
                ("paused_reason", models.TextField(blank=True, db_default="", editable=False)),
                ("paused_until", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="programs",
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
                ("names", models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)),
                ("description", models.TextField(blank=True, db_default="", default="")),
                (
                    "scope",
                    models.CharField(
                        choices=[("TENANT", "Tenant"), ("SYSTEM", "System")],
                        db_default="TENANT",
                        default="TENANT",
                        max_length=6,
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("ACTIVE", "Active"), ("PAUSED", "Paused"), ("TERMINATED", "Terminated")],
                        db_default="ACTIVE",
                        default="ACTIVE",
                        max_length=10,
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="programs",
                        to="jobsite_programs.queue",
                    ),
                ),
                ("priority", models.SmallIntegerField(db_default=0, default=0)),
                ("parameters_schema", models.JSONField()),
                ("timeout_seconds", models.FloatField()),
                ("max_attempts", models.PositiveSmallIntegerField(db_default=3, default=3)),
                ("initial_interval", models.FloatField(db_default=1.0, default=1.0)),
                ("coefficient", models.FloatField(db_default=2.0, default=2.0)),
                ("maximum_interval", models.FloatField(db_default=30.0, default=30.0)),
                ("jitter", models.FloatField(db_default=0.1, default=0.1)),
                ("retry_on_timeout", models.BooleanField(db_default=False, default=False)),
                (
                    "transient",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), blank=True, db_default=[], default=list, size=None
                    ),
                ),
                (
                    "permanent",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), blank=True, db_default=[], default=list, size=None
                    ),
                ),
                ("max_worker_losses", models.PositiveSmallIntegerField(db_default=3, default=3)),
                (
                    "on_worker_lost",
                    models.CharField(
                        choices=[("RETRY", "Retry"), ("FAIL", "Fail")],
                        db_default="RETRY",
                        default="RETRY",
                        max_length=5,
                    ),
                ),
                (
                    "on_child_failure",
                    models.CharField(
                        choices=[("WARN", "Warn"), ("FAIL", "Fail"), ("IGNORE", "Ignore")],
                        db_default="WARN",
                        default="WARN",
                        max_length=6,
                    ),
                ),
                ("cancel_children_on_failure", models.BooleanField(db_default=False, default=False)),
                ("cancel_grace_seconds", models.FloatField(db_default=10.0, default=10.0)),
                ("overlap_policy", models.CharField(db_default="ALLOW", default="ALLOW", max_length=6)),
                (
                    "overlap_keys",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), blank=True, db_default=[], default=list, size=None
                    ),
                ),
                (
                    "notification_group",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="programs",
                        to="jobsite_notifications.group",
                    ),
                ),
                ("max_consecutive_failures", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("consecutive_failures", models.PositiveIntegerField(db_default=0, default=0, editable=False)),
                ("travels_in_groups", models.BooleanField(db_default=True, default=True)),
                ("mean_seconds", models.FloatField(blank=True, editable=False, null=True)),
                ("measured_runs", models.PositiveBigIntegerField(db_default=0, default=0, editable=False)),
                ("version", models.PositiveIntegerField(db_default=1, default=1, editable=False)),
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
                "db_table": "jobsite_program",
                "ordering": ["code"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("tenant", "code"),
                        name="program_code_once_per_tenant",
                    ),
                    models.UniqueConstraint(fields=("tenant", "id"), name="program_tenant_and_id"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["ACTIVE", "PAUSED", "TERMINATED"])),
                        name="program_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("overlap_policy__in", ["ALLOW", "REJECT", "QUEUE"])),
                        name="program_overlap_policy_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("priority__gte", -100), ("priority__lte", 100)),
                        name="program_priority_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("timeout_seconds__gt", 0), ("timeout_seconds__lte", 86400)),
                        name="program_timeout_at_most_a_day",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("max_attempts__gte", 1), ("max_worker_losses__gte", 1)),
                        name="program_runs_at_least_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("on_child_failure__in", ["WARN", "FAIL", "IGNORE"])),
                        name="program_on_child_failure_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Action",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobsite_tenants.tenant"
                    ),
                ),
                (
                    "program",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="actions",
                        to="jobsite_programs.program",
                    ),
                ),
                ("position", models.PositiveSmallIntegerField()),
                ("name", models.CharField(blank=True, db_default="", max_length=100)),
                ("kind", models.CharField(max_length=20)),
                ("configuration", models.JSONField()),
                ("timeout_seconds", models.FloatField(blank=True, null=True)),
                ("is_callback", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "db_table": "jobsite_action",
                "ordering": ["program", "position"],
                "constraints": [
                    models.UniqueConstraint(fields=("program", "position"), name="action_position_once_per_program"),
                    models.UniqueConstraint(
                        condition=models.Q(("is_callback", True)),
                        fields=("program",),
                        name="action_one_callback_per_program",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Lane",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, db_default="", editable=False, max_length=150)),
                ("paused_reason", models.TextField(blank=True, db_default="", editable=False)),
                ("paused_until", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "queue",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="lanes", to="jobsite_programs.queue"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="lanes", to="jobsite_tenants.tenant"
                    ),
                ),
                ("served", models.FloatField(db_default=0.0, editable=False)),
                ("is_waiting", models.BooleanField(db_default=False, editable=False)),
                ("wakes", models.PositiveBigIntegerField(db_default=0, editable=False)),
            ],
            options={
                "db_table": "jobsite_lane",
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_waiting", True)),
                        fields=["queue", "served"],
                        name="lane_waiting_least_served",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("queue", "tenant"), name="lane_once_per_queue_and_tenant")
                ],
            },
        ),
        migrations.CreateModel(
            name="CapturedContext",
            fields=[
                ("key", models.UUIDField(primary_key=True, serialize=False)),
                ("content", models.JSONField()),
            ],
            options={
                "db_table": "jobsite_capturedcontext",
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                ("number", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "program",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="jobsite_programs.program",
                    ),
                ),
                (
                    "queue",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="jobsite_programs.queue",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "PENDING"),
                            ("QUEUED", "QUEUED"),
                            ("RUNNING", "RUNNING"),
                            ("WAITING", "WAITING"),
                            ("COMPLETED", "COMPLETED"),
                            ("FAILED", "FAILED"),
                            ("CANCELED", "CANCELED"),
                        ],
                        db_default="PENDING",
                        max_length=9,
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[("NORMAL", "NORMAL"), ("WARNING", "WARNING"), ("ERROR", "ERROR")],
                        db_default="NORMAL",
                        max_length=7,
                    ),
                ),
                (
                    "trigger",
                    models.CharField(
                        choices=[("AUTOMATIC", "AUTOMATIC"), ("MANUAL", "MANUAL"), ("CHILD", "CHILD")],
                        db_default="MANUAL",
                        max_length=9,
                    ),
                ),
                ("priority", models.SmallIntegerField(db_default=0)),
                ("parameters", models.JSONField()),
                ("has_secrets", models.BooleanField(db_default=False)),
                ("notify", models.BooleanField(db_default=False)),
                (
                    "context",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="jobsite_programs.capturedcontext",
                    ),
                ),
                ("scheduled_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("rank", models.DateTimeField()),
                ("blocked", models.CharField(max_length=9, null=True)),
                ("hold_at", models.DateTimeField(null=True)),
                ("hold_by", models.CharField(db_default="", max_length=150)),
                ("hold_reason", models.TextField(db_default="")),
                ("hold_until", models.DateTimeField(null=True)),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("cancel_requested_by", models.CharField(db_default="", max_length=150)),
                ("cancel_reason", models.TextField(db_default="")),
                ("attempts", models.IntegerField(db_default=0)),
                ("losses", models.IntegerField(db_default=0)),
                ("returns", models.IntegerField(db_default=0)),
                ("fence", models.BigIntegerField(db_default=0)),
                ("lock_token", models.UUIDField(null=True)),
                ("lock_owner", models.UUIDField(null=True)),
                ("lock_expires_at", models.DateTimeField(null=True)),
                ("stuck_at", models.DateTimeField(null=True)),
                ("external_id", models.UUIDField(null=True)),
                ("engine", models.CharField(db_default="redis", max_length=10)),
                ("alone", models.BooleanField(db_default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("queued_at", models.DateTimeField(null=True)),
                ("claimed_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "parent",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="children",
                        to="jobsite_programs.job",
                    ),
                ),
                ("child_key", models.CharField(max_length=200, null=True)),
                ("parent_fence", models.BigIntegerField(null=True)),
                ("parked_fence", models.BigIntegerField(null=True)),
                (
                    "retry_of",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="retries",
                        to="jobsite_programs.job",
                    ),
                ),
                ("overlap_policy", models.CharField(db_default="ALLOW", max_length=6)),
                ("overlap_key", models.TextField(null=True)),
                ("idempotency_key", models.CharField(max_length=200, null=True)),
                ("fingerprint", models.CharField(db_default="", max_length=64)),
                ("progress", models.JSONField(null=True)),
                ("current_step", models.CharField(db_default="", max_length=100)),
                ("result", models.JSONField(null=True)),
                ("error", models.JSONField(null=True)),
                ("failure_kind", models.CharField(max_length=11, null=True)),
                ("needs_review", models.BooleanField(db_default=False)),
                ("reviewed_at", models.DateTimeField(null=True)),
                ("reviewed_by", models.CharField(db_default="", max_length=150)),
            ],
            options={
                "db_table": "jobsite_job",
                "ordering": ["-number"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("blocked__isnull", True), ("status", "PENDING")),
                        fields=["queue", "tenant", "rank", "number"],
                        name="job_ready_in_lane",
                    ),
                    models.Index(
                        condition=models.Q(("blocked", "SCHEDULED"), ("status", "PENDING")),
                        fields=["due_at"],
                        name="job_due_later",
                    ),
                    models.Index(
                        condition=models.Q(("blocked", "HELD"), ("hold_until__isnull", False), ("status", "PENDING")),
                        fields=["hold_until"],
                        name="job_hold_ends",
                    ),
                    models.Index(
                        condition=models.Q(("blocked__in", ["PAUSED", "OVERLAP"]), ("status", "PENDING")),
                        fields=["program", "number"],
                        name="job_waits_for_its_program",
                    ),
                    models.Index(
                        condition=models.Q(("overlap_policy", "QUEUE"), ("status", "PENDING")),
                        fields=["program", "overlap_key", "scheduled_at", "number"],
                        name="job_waits_for_its_key",
                    ),
                    models.Index(
                        condition=models.Q(("status", "QUEUED")), fields=["queue", "queued_at"], name="job_queued"
                    ),
                    models.Index(
                        condition=models.Q(("status", "RUNNING")), fields=["lock_owner"], name="job_running_by_owner"
                    ),
                    models.Index(
                        condition=models.Q(("status", "RUNNING")), fields=["tenant"], name="job_running_by_tenant"
                    ),
                    models.Index(
                        condition=models.Q(("status__in", ["PENDING", "QUEUED", "RUNNING", "WAITING"])),
                        fields=["tenant", "number"],
                        name="job_open",
                    ),
                    models.Index(
                        condition=models.Q(("status", "FAILED")), fields=["tenant", "number"], name="job_failed"
                    ),
                    models.Index(fields=["program", "number"], name="job_of_program"),
                    models.Index(
                        condition=models.Q(("parent__isnull", False)), fields=["parent", "number"], name="job_of_parent"
                    ),
                    models.Index(
                        condition=models.Q(
                            ("parent__isnull", False), ("status__in", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
                        ),
                        fields=["parent"],
                        name="job_open_child_of_parent",
                    ),
                    models.Index(
                        condition=models.Q(("status", "WAITING")), fields=["number"], name="job_waits_for_children"
                    ),
                    models.Index(
                        condition=models.Q(("retry_of__isnull", False)), fields=["retry_of"], name="job_retries_another"
                    ),
                    models.Index(condition=models.Q(("has_secrets", True)), fields=["number"], name="job_with_secrets"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "number"), name="job_tenant_and_number"),
                    models.UniqueConstraint(
                        condition=models.Q(("idempotency_key__isnull", False)),
                        fields=("tenant", "idempotency_key"),
                        name="job_idempotency_key_once_per_tenant",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("parent__isnull", False)),
                        fields=("parent", "child_key"),
                        name="job_child_key_once_per_parent",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("overlap_policy", "REJECT"), ("status__in", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
                        ),
                        fields=("program", "overlap_key"),
                        name="job_reject_key_once_among_open",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("overlap_policy", "QUEUE"),
                            models.Q(
                                ("status__in", ["QUEUED", "RUNNING", "WAITING"]),
                                models.Q(("attempts__gt", 0), ("status", "PENDING")),
                                _connector="OR",
                            ),
                        ),
                        fields=("program", "overlap_key"),
                        name="job_queue_key_once_among_active",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("retry_of__isnull", False), ("status__in", ["PENDING", "QUEUED", "RUNNING", "WAITING"])
                        ),
                        fields=("retry_of",),
                        name="job_retried_once_at_a_time",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JobAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempt_rows",
                        to="jobsite_programs.job",
                    ),
                ),
                ("fence", models.PositiveBigIntegerField()),
                ("token", models.UUIDField()),
                ("worker", models.CharField(max_length=255)),
                ("external_id", models.UUIDField(null=True)),
                ("claimed_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField()),
                ("result", models.CharField(max_length=9)),
                ("error", models.JSONField(null=True)),
                ("traceback", models.TextField(db_default="")),
            ],
            options={
                "db_table": "jobsite_jobattempt",
                "ordering": ["fence"],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "fence"), name="attempt_fence_once_per_job"),
                    models.UniqueConstraint(
                        condition=models.Q(("result", "SUCCESS")), fields=("job",), name="attempt_succeeds_once_per_job"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "result__in",
                                [
                                    "SUCCESS",
                                    "PARKED",
                                    "TRANSIENT",
                                    "PERMANENT",
                                    "TIMEOUT",
                                    "LOST",
                                    "CANCELED",
                                    "RETURNED",
                                    "CLEARED",
                                ],
                            )
                        ),
                        name="attempt_result_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JobStep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="step_rows",
                        to="jobsite_programs.job",
                    ),
                ),
                ("action", models.CharField(max_length=100)),
                ("name", models.CharField(db_default="", max_length=100)),
                ("digest", models.UUIDField()),
                ("status", models.CharField(max_length=9)),
                ("tries", models.PositiveIntegerField()),
                ("fence", models.PositiveBigIntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("warned", models.BooleanField(db_default=False)),
                ("result", models.JSONField(null=True)),
                ("error", models.JSONField(null=True)),
            ],
            options={
                "db_table": "jobsite_jobstep",
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "action", "name"), name="step_once_per_job"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["RUNNING", "COMPLETED", "FAILED"])), name="step_status_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at__isnull", True), ("status", "RUNNING")),
                            models.Q(models.Q(("status", "RUNNING"), _negated=True), ("ended_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="step_ended_at_unless_running",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JobLogEntry",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("id", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("tenant_id", models.BigIntegerField()),
                ("job_number", models.BigIntegerField()),
                ("sequence", models.BigIntegerField()),
                ("attempt", models.PositiveIntegerField()),
                ("step", models.CharField(max_length=100)),
                ("stream", models.CharField(max_length=6)),
                ("severity", models.CharField(max_length=8)),
                ("message", models.TextField()),
            ],
            options={
                "db_table": "jobsite_joblogentry",
                "ordering": ["sequence"],
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("paused_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, db_default="", editable=False, max_length=150)),
                ("paused_reason", models.TextField(blank=True, db_default="", editable=False)),
                ("paused_until", models.DateTimeField(blank=True, editable=False, null=True)),
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
                    "program",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="schedules",
                        to="jobsite_programs.program",
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
            ],
            options={
                "db_table": "jobsite_schedule",
                "ordering": ["code"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("due_at__isnull", False)), fields=["due_at", "id"], name="schedule_due"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("deleted_at__isnull", True)),
                        fields=("tenant", "code"),
                        name="schedule_code_once_per_tenant",
                    ),
                    models.UniqueConstraint(fields=("tenant", "id"), name="schedule_tenant_and_id"),
                    models.CheckConstraint(
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
                    models.CheckConstraint(
                        condition=models.Q(("jitter_minutes__lte", 59)), name="schedule_jitter_within_an_hour"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("priority__isnull", True),
                            models.Q(("priority__gte", -100), ("priority__lte", 100)),
                            _connector="OR",
                        ),
                        name="schedule_priority_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("missed__in", ["SKIP", "ONE", "ALL"]),
                            ("missed_cap__gte", 1),
                            ("overlap__in", ["ALLOW", "SKIP"]),
                            ("missed_cap__lte", 100),
                        ),
                        name="schedule_policies_known",
                    ),
                    models.CheckConstraint(
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
                ],
            },
        ),
        migrations.CreateModel(
            name="Firing",
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
                    "schedule",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="firings",
                        to="jobsite_programs.schedule",
                    ),
                ),
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
            ],
            options={
                "db_table": "jobsite_firing",
                "ordering": ["-nominal_at"],
                "constraints": [
                    models.UniqueConstraint(fields=("schedule", "nominal_at"), name="firing_once_per_nominal_time"),
                    models.UniqueConstraint(
                        condition=models.Q(("job_number__isnull", False)),
                        fields=("job_number",),
                        name="firing_one_for_a_job",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("job_number__isnull", False), ("result", "FIRED")),
                            models.Q(("job_number__isnull", True), ("result__in", ["SKIPPED", "MISSED"])),
                            _connector="OR",
                        ),
                        name="firing_fired_has_a_job",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("through__isnull", True),
                            models.Q(("result", "MISSED"), ("through__gt", models.F("nominal_at"))),
                            _connector="OR",
                        ),
                        name="firing_only_missed_times_are_a_stretch",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="WorkerManager",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
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
                ("max_running", models.PositiveIntegerField(blank=True, help_text="Empty: no limit.", null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "db_table": "jobsite_workermanager",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255)),
                ("incarnation", models.UUIDField(unique=True)),
                (
                    "manager",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="workers",
                        to="jobsite_programs.workermanager",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("ACTIVE", "Active"),
                            ("STOPPING", "Stopping"),
                            ("STOPPED", "Stopped"),
                            ("LOST", "Lost"),
                        ],
                        db_default="ACTIVE",
                        max_length=8,
                    ),
                ),
                ("host", models.CharField(max_length=255)),
                ("boot_id", models.CharField(max_length=64)),
                ("pid_namespace", models.CharField(max_length=64)),
                ("pid", models.IntegerField()),
                ("process_started", models.BigIntegerField()),
                (
                    "queues",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=63), size=None),
                ),
                ("pool", models.CharField(max_length=20)),
                ("children", models.PositiveIntegerField()),
                ("started_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("last_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "jobsite_worker",
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("status__in", ["ACTIVE", "STOPPING"])),
                        fields=("name",),
                        name="worker_name_once_among_the_living",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Sweep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, unique=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("error", models.TextField(db_default="")),
            ],
            options={
                "db_table": "jobsite_sweep",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="TenantUsage",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="usage",
                        serialize=False,
                        to="jobsite_tenants.tenant",
                    ),
                ),
                ("pending", models.BigIntegerField(db_default=0)),
                ("counted_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("allowance", models.FloatField(db_default=0.0)),
                ("allowed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "db_table": "jobsite_tenantusage",
            },
        ),
        migrations.CreateModel(
            name="BulkAct",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobsite_tenants.tenant"
                    ),
                ),
                ("act", models.CharField(max_length=20)),
                ("order", models.JSONField()),
                ("numbers", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ("total", models.IntegerField()),
                ("filter", models.TextField(db_default="")),
                ("kind", models.CharField(max_length=6)),
                ("user_id", models.BigIntegerField(null=True)),
                ("actor", models.CharField(max_length=150)),
                ("door", models.CharField(max_length=10)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), size=None),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("RUNNING", "Running"), ("ENDED", "Ended"), ("STOPPED", "Stopped")],
                        db_default="RUNNING",
                        max_length=7,
                    ),
                ),
                ("place", models.IntegerField(db_default=0)),
                ("done", models.IntegerField(db_default=0)),
                ("refused", models.IntegerField(db_default=0)),
                ("refusals", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("ended_at", models.DateTimeField(null=True)),
                ("why_stopped", models.TextField(db_default="")),
            ],
            options={
                "verbose_name": "act on many jobs",
                "verbose_name_plural": "acts on many jobs",
                "db_table": "jobsite_bulkact",
                "ordering": ["-id"],
                "indexes": [
                    models.Index(condition=models.Q(("state", "RUNNING")), fields=["id"], name="bulk_act_running"),
                    models.Index(fields=["tenant", "id"], name="bulk_act_of_tenant"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "place",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("done"), "+", models.F("refused")
                                ),
                            ),
                            ("place__lte", models.F("total")),
                            ("total__lte", 10000),
                        ),
                        name="bulk_act_counts_add_up",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("ended_at__isnull", True), ("place__lt", models.F("total")), ("state", "RUNNING")
                            ),
                            models.Q(("ended_at__isnull", False), ("place", models.F("total")), ("state", "ENDED")),
                            models.Q(("ended_at__isnull", False), ("state", "STOPPED")),
                            _connector="OR",
                        ),
                        name="bulk_act_ends_with_its_last_job",
                    ),
                ],
            },
        ),
    ]
