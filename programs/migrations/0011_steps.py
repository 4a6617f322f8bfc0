"""Steps of jobs, kept for the runs that follow."""

import django.db.models.deletion
from django.db import migrations, models

from jobsite.programs.rules.lifecycle import StepStatus

SAME_TENANT = """
ALTER TABLE jobsite_jobstep ADD CONSTRAINT step_job_of_same_tenant
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobsite_job (tenant_id, number) ON DELETE CASCADE
"""


def _reference(to: str, deletion: object, name: str) -> models.ForeignKey:
    return models.ForeignKey(to, deletion, db_constraint=False, db_index=False, related_name=name)


class Migration(migrations.Migration):
    dependencies = [("jobsite_tenants", "__first__"), ("jobsite_programs", "0010_vacuumed_in_time")]

    operations = [
        migrations.CreateModel(
            "JobStep",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
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
                ("tenant", _reference("jobsite_tenants.tenant", django.db.models.deletion.PROTECT, "+")),
                ("job", _reference("jobsite_programs.job", django.db.models.deletion.CASCADE, "step_rows")),
            ],
            options={
                "db_table": "jobsite_jobstep",
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(fields=["job", "action", "name"], name="step_once_per_job"),
                    models.CheckConstraint(condition=models.Q(status__in=list(StepStatus)), name="step_status_known"),
                    models.CheckConstraint(
                        condition=models.Q(status=StepStatus.RUNNING, ended_at__isnull=True)
                        | models.Q(~models.Q(status=StepStatus.RUNNING), ended_at__isnull=False),
                        name="step_ended_at_unless_running",
                    ),
                ],
            },
        ),
        migrations.RunSQL(SAME_TENANT, "ALTER TABLE jobsite_jobstep DROP CONSTRAINT step_job_of_same_tenant"),
    ]
