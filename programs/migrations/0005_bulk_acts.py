"""Acts on many jobs; and who retried a job is found by an index."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0004_lanes_stay_awake")]

    operations = [
        migrations.AddIndex(
            "job",
            models.Index(fields=["retry_of"], condition=models.Q(retry_of__isnull=False), name="job_retries_another"),
        ),
    ]
