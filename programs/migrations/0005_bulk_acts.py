"""Acts on many jobs; and who retried a job is found by an index."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0004_lanes_stay_awake"), ("jobsite_tenants", "0001_initial")]

    operations = [
        migrations.AddIndex(
            "job",
            models.Index(fields=["retry_of"], condition=Q(retry_of__isnull=False), name="job_retries_another"),
        ),
        migrations.CreateModel(
            name="BulkAct",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("act", models.CharField(max_length=20)),
                ("order", models.JSONField()),
                ("numbers", django.contrib.postgres.fields.ArrayField(models.BigIntegerField())),
                ("total", models.IntegerField()),
                ("filter", models.TextField(db_default="")),
                ("kind", models.CharField(max_length=6)),
                ("user_id", models.BigIntegerField(null=True)),
                ("actor", models.CharField(max_length=150)),
                ("door", models.CharField(max_length=10)),
                ("scopes", django.contrib.postgres.fields.ArrayField(models.CharField(max_length=20))),
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
                ("created_at", models.DateTimeField(db_default=Now())),
                ("ended_at", models.DateTimeField(null=True)),
                ("why_stopped", models.TextField(db_default="")),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="jobsite_tenants.tenant"
                    ),
                ),
            ],
            options={
                "db_table": "jobsite_bulkact",
                "ordering": ["-id"],
                "verbose_name": "act on many jobs",
                "verbose_name_plural": "acts on many jobs",
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(place=F("done") + F("refused"), place__lte=F("total"), total__lte=10_000),
                        name="bulk_act_counts_add_up",
                    ),
                    models.CheckConstraint(
                        condition=Q(state="RUNNING", ended_at__isnull=True, place__lt=F("total"))
                        | Q(state="ENDED", ended_at__isnull=False, place=F("total"))
                        | Q(state="STOPPED", ended_at__isnull=False),
                        name="bulk_act_ends_with_its_last_job",
                    ),
                ],
                "indexes": [
                    models.Index(fields=["id"], condition=Q(state="RUNNING"), name="bulk_act_running"),
                    models.Index(fields=["tenant", "id"], name="bulk_act_of_tenant"),
                ],
            },
        ),
    ]
