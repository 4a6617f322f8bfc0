"""An index of the jobs that wait for the key of their program, in the order in which they get it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0005_bulk_acts")]

    operations = [
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("overlap_policy", "QUEUE"), ("status", "PENDING")),
                fields=["program", "overlap_key", "scheduled_at", "number"],
                name="job_waits_for_its_key",
            ),
        ),
    ]
