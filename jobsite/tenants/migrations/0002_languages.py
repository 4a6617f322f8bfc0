"""Which language a member reads."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobsite_tenants", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="membership",
            name="language",
            field=models.CharField(
                blank=True, db_default="", default="", help_text="Such as de-AT. Empty: the tenant's.", max_length=16
            ),
        ),
    ]
