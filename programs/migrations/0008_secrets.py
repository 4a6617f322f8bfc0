"""Which jobs have secret parameters, and an index of those alone: the rotation of keys reads no other row."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0007_quotas")]

    operations = [
        migrations.AddField("job", "has_secrets", models.BooleanField(db_default=False)),
        migrations.AddIndex(
            "job",
            models.Index(fields=["number"], condition=models.Q(has_secrets=True), name="job_with_secrets"),
        ),
    ]
