"""Who is told of a program's jobs, and whether a job's submitter is."""

import django.db.models.deletion
from django.db import migrations, models


SAME_TENANT = """
ALTER TABLE jobsite_program ADD CONSTRAINT program_group_of_same_tenant
    FOREIGN KEY (tenant_id, notification_group_id) REFERENCES jobsite_group (tenant_id, id);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("jobsite_notifications", "0001_initial"),
        ("jobsite_programs", "0013_schedules"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="notify",
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name="program",
            name="notification_group",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="programs",
                to="jobsite_notifications.group",
            ),
        ),
        migrations.RunSQL(SAME_TENANT, "ALTER TABLE jobsite_program DROP CONSTRAINT program_group_of_same_tenant"),
    ]
