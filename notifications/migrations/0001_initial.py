"""Groups, rules, templates and deliveries."""

import django.contrib.postgres.fields
import django.contrib.postgres.functions
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
import jobsite.notifications.events
from django.conf import settings
from django.db import migrations, models


SAME_TENANT = """
ALTER TABLE jobsite_rule ADD CONSTRAINT rule_group_of_same_tenant
    FOREIGN KEY (tenant_id, group_id) REFERENCES jobsite_group (tenant_id, id) ON DELETE CASCADE;
ALTER TABLE jobsite_rule ADD CONSTRAINT rule_template_of_same_tenant
    FOREIGN KEY (tenant_id, template_id) REFERENCES jobsite_template (tenant_id, id);
ALTER TABLE jobsite_translation ADD CONSTRAINT translation_template_of_same_tenant
    FOREIGN KEY (tenant_id, template_id) REFERENCES jobsite_template (tenant_id, id) ON DELETE CASCADE;
ALTER TABLE jobsite_delivery ADD CONSTRAINT delivery_rule_of_same_tenant
    FOREIGN KEY (tenant_id, rule_id) REFERENCES jobsite_rule (tenant_id, id) ON DELETE SET NULL (rule_id);
"""


# Each recipient of a rule once, members of the tenant and addresses; whether a member is one still is looked at again
# before it is sent. Of the recovery those rules tell that ask for it, once after what they told of the trouble: the
# order of what it said last is the whole index's, or the planner would go through the table by its key.
TELL = """
CREATE FUNCTION jobsite_tell(
    tenant bigint, to_group bigint, event text, names text[], recovery text, recovered text[], key text,
    told_of text, job bigint, program bigint, schedule bigint, context uuid, submitter bigint, notify boolean,
    alerts boolean, in_a_row integer, details jsonb, only_rule bigint, hinted boolean
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    IF context IS NOT NULL THEN
        submitter := (SELECT (c.content ->> 'user_id')::bigint FROM jobsite_capturedcontext c WHERE c.key = context);
    END IF;
    -- Whose account is deleted is told nothing more.
    submitter := (SELECT u.id FROM auth_user u WHERE u.id = submitter);
    RETURN QUERY
    WITH rule AS (
        SELECT r.*, jobsite_tell.event AS says FROM jobsite_rule r
        WHERE r.group_id = to_group AND r.deleted_at IS NULL AND r.is_active
              AND r.event = ANY(names) AND r.in_a_row <= jobsite_tell.in_a_row
        UNION ALL
        SELECT r.*, recovery FROM jobsite_rule r
        WHERE r.group_id = to_group AND r.deleted_at IS NULL AND r.is_active AND r.on_recovery
              AND r.event = ANY(recovered)
              AND (SELECT d.event FROM jobsite_delivery d WHERE d.rule_id = r.id AND d.source = told_of
                   ORDER BY d.rule_id DESC, d.source DESC, d.id DESC LIMIT 1) <> recovery
    ), recipient AS (
        SELECT r.id AS rule_id, r.says, r.channel, too.user_id, too.address
        FROM rule r CROSS JOIN LATERAL (
            SELECT submitter AS user_id, '' AS address WHERE r.to_submitter AND submitter IS NOT NULL
            UNION SELECT m.user_id, '' FROM jobsite_membership m
                  WHERE m.tenant_id = r.tenant_id AND m.role = ANY(r.to_roles)
            UNION SELECT m.user_id, '' FROM jobsite_rule_to_users u
                  JOIN jobsite_membership m ON m.tenant_id = r.tenant_id AND m.user_id = u.user_id
                  WHERE u.rule_id = r.id
            UNION SELECT NULL, one FROM unnest(r.to_addresses) AS one
            UNION SELECT NULL, r.to_url WHERE r.to_url <> '') too
        WHERE only_rule IS NULL OR r.id = only_rule
        UNION ALL
        SELECT NULL, jobsite_tell.event, CASE WHEN u.email <> '' THEN 'email' ELSE 'inbox' END, u.id, ''
        FROM auth_user u WHERE notify AND u.id = submitter
        UNION ALL
        SELECT NULL, jobsite_tell.event, 'email', NULL, 'SYSTEM_JOBS_ALERT_EMAIL' WHERE alerts
    )
    INSERT INTO jobsite_delivery AS d (tenant_id, rule_id, dedupe_key, event, source, job_number, program_id,
                                       schedule_id, details, channel, user_id, address, hinted_at)
    SELECT tenant, too.rule_id,
           concat_ws(':', jobsite_tell.key, 'rule ' || too.rule_id, 'user ' || too.user_id, nullif(too.address, '')),
           too.says, told_of, job, program, schedule,
           jobsite_tell.details || jsonb_build_object('in_a_row', jobsite_tell.in_a_row),
           too.channel, too.user_id, too.address, CASE WHEN hinted THEN clock_timestamp() END
    FROM recipient too
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING d.id;
END $$;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("jobsite_tenants", "0002_languages"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Group",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_groups",
                        to="jobsite_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "notification group",
                "db_table": "jobsite_group",
                "ordering": ["code"],
            },
        ),
        migrations.CreateModel(
            name="Rule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_rules",
                        to="jobsite_tenants.tenant",
                    ),
                ),
                ("to_users", models.ManyToManyField(blank=True, related_name="+", to=settings.AUTH_USER_MODEL)),
            ],
            options={
                "db_table": "jobsite_rule",
                "ordering": ["group", "id"],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
            ],
            options={
                "verbose_name_plural": "deliveries",
                "db_table": "jobsite_delivery",
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Template",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notification_templates",
                        to="jobsite_tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "notification template",
                "db_table": "jobsite_template",
                "ordering": ["code"],
            },
        ),
        migrations.AddField(
            model_name="rule",
            name="template",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                help_text="Empty: the event's own.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rules",
                to="jobsite_notifications.template",
            ),
        ),
        migrations.CreateModel(
            name="Translation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="jobsite_tenants.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "jobsite_translation",
                "ordering": ["language"],
            },
        ),
        migrations.AddConstraint(
            model_name="group",
            constraint=models.UniqueConstraint(
                condition=models.Q(("deleted_at__isnull", True)),
                fields=("tenant", "code"),
                name="group_code_once_per_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="group",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="group_tenant_and_id"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(condition=models.Q(("status", "PENDING")), fields=["due_at"], name="delivery_due"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("job_number__isnull", False)), fields=["job_number"], name="delivery_of_job"
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["rule", "source", "id"], name="delivery_of_rule"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("status", "SUPPRESSED"), _negated=True),
                fields=["rule", "source", "id"],
                name="delivery_told",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("job_number__isnull", True)),
                fields=["tenant", "finished_at"],
                name="delivery_without_job",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["tenant", "id"], name="delivery_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("channel", "inbox"), ("status", "SENT")),
                fields=["tenant", "user", "id"],
                name="delivery_in_inbox",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("channel", "inbox"), ("read_at__isnull", True), ("status", "SENT")),
                fields=["tenant", "user", "id"],
                name="delivery_unread",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["PENDING", "SENT", "FAILED", "SUPPRESSED"])),
                name="delivery_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "event__in",
                        [
                            jobsite.notifications.events.Event["SUBMITTED"],
                            jobsite.notifications.events.Event["STARTED"],
                            jobsite.notifications.events.Event["RETRYING"],
                            jobsite.notifications.events.Event["COMPLETED"],
                            jobsite.notifications.events.Event["FAILED"],
                            jobsite.notifications.events.Event["CANCELED"],
                            jobsite.notifications.events.Event["LATE"],
                            jobsite.notifications.events.Event["STUCK"],
                            jobsite.notifications.events.Event["RECOVERED"],
                            jobsite.notifications.events.Event["PROGRAM_TERMINATED"],
                            jobsite.notifications.events.Event["SCHEDULE_MISSED"],
                            jobsite.notifications.events.Event["SCHEDULE_RECOVERED"],
                        ],
                    )
                ),
                name="delivery_event_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("channel__in", ("email", "webhook", "inbox"))), name="delivery_channel_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("address", ""), ("user__isnull", False)),
                    models.Q(("user__isnull", True), models.Q(("address", ""), _negated=True)),
                    _connector="OR",
                ),
                name="delivery_to_a_user_or_an_address",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("channel", "inbox"), _negated=True), ("user__isnull", False), _connector="OR"
                ),
                name="delivery_inbox_is_a_users",
            ),
        ),
        migrations.AddConstraint(
            model_name="template",
            constraint=models.UniqueConstraint(
                condition=models.Q(("deleted_at__isnull", True)),
                fields=("tenant", "code"),
                name="template_code_once_per_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="template",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="template_tenant_and_id"),
        ),
        migrations.AddConstraint(
            model_name="template",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_default", True)),
                fields=("tenant", "event"),
                name="template_one_default_per_event",
            ),
        ),
        migrations.AddConstraint(
            model_name="template",
            constraint=models.CheckConstraint(
                condition=models.Q(("is_default", False), ("deleted_at__isnull", True), _connector="OR"),
                name="template_default_stays",
            ),
        ),
        migrations.AddConstraint(
            model_name="template",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "event__in",
                        [
                            jobsite.notifications.events.Event["SUBMITTED"],
                            jobsite.notifications.events.Event["STARTED"],
                            jobsite.notifications.events.Event["RETRYING"],
                            jobsite.notifications.events.Event["COMPLETED"],
                            jobsite.notifications.events.Event["FAILED"],
                            jobsite.notifications.events.Event["CANCELED"],
                            jobsite.notifications.events.Event["LATE"],
                            jobsite.notifications.events.Event["STUCK"],
                            jobsite.notifications.events.Event["RECOVERED"],
                            jobsite.notifications.events.Event["PROGRAM_TERMINATED"],
                            jobsite.notifications.events.Event["SCHEDULE_MISSED"],
                            jobsite.notifications.events.Event["SCHEDULE_RECOVERED"],
                        ],
                    )
                ),
                name="template_event_known",
            ),
        ),
        migrations.AddIndex(
            model_name="rule",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", True), ("is_active", True)),
                fields=["group", "event"],
                name="rule_of_event",
            ),
        ),
        migrations.AddIndex(
            model_name="rule",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", True), ("is_active", True), ("on_recovery", True)),
                fields=["group", "event"],
                name="rule_of_recovery",
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="rule_tenant_and_id"),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(("channel__in", ("email", "webhook", "inbox"))), name="rule_channel_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("in_a_row", 1),
                    models.Q(("in_a_row__gt", 1), ("event__in", ("FAILED", "COMPLETED+ERROR"))),
                    _connector="OR",
                ),
                name="rule_counts_failures_alone",
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("on_recovery", False),
                    ("event__in", ["FAILED", "COMPLETED+ERROR", "SCHEDULE_MISSED"]),
                    _connector="OR",
                ),
                name="rule_tells_recovery_of_trouble",
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(("throttle_minutes__isnull", True), ("throttle_minutes__gte", 1), _connector="OR"),
                name="rule_throttle_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("channel", "webhook"),
                        ("to_addresses", []),
                        ("to_roles", []),
                        ("to_submitter", False),
                        models.Q(("to_url", ""), _negated=True),
                    ),
                    models.Q(models.Q(("channel", "webhook"), _negated=True), ("secret__isnull", True), ("to_url", "")),
                    _connector="OR",
                ),
                name="rule_recipients_fit_its_channel",
            ),
        ),
        migrations.AddConstraint(
            model_name="rule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("channel", "inbox"), _negated=True), ("to_addresses", []), _connector="OR"
                ),
                name="rule_inbox_has_no_address",
            ),
        ),
        migrations.AddConstraint(
            model_name="translation",
            constraint=models.UniqueConstraint(fields=("template", "language"), name="translation_once_per_language"),
        ),
        migrations.AddConstraint(
            model_name="translation",
            constraint=models.CheckConstraint(
                condition=models.Q(("language__in", ("en", "de", "fr", "es"))), name="translation_language_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(fields=("dedupe_key",), name="delivery_once_per_key"),
        ),
        migrations.RunSQL(SAME_TENANT, migrations.RunSQL.noop),
        migrations.RunSQL(TELL, "DROP FUNCTION jobsite_tell"),
    ]
