"""What tenants with quotas have used up of them."""

from django.db import migrations, models
from django.db.models.deletion import CASCADE
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0006_one_of_a_key"), ("jobsite_tenants", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="TenantUsage",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=CASCADE,
                        primary_key=True,
                        related_name="usage",
                        serialize=False,
                        to="jobsite_tenants.tenant",
                    ),
                ),
                ("pending", models.BigIntegerField(db_default=0)),
                ("counted_at", models.DateTimeField(db_default=Now())),
                ("allowance", models.FloatField(db_default=0.0)),
                ("allowed_at", models.DateTimeField(db_default=Now())),
            ],
            options={"db_table": "jobsite_tenantusage"},
        ),
    ]
