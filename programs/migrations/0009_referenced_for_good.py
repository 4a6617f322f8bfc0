"""Queues and captured contexts are never deleted, so that no job must lock them to refer to them.

A submission reads both in the statement that inserts; what the database did to make sure of it a second time took a
sixth of a bulk submission. Whether a job refers to nothing is among the invariants.
"""

import django.db.models.deletion
from django.db import migrations, models

NEVER_DELETED = """
CREATE FUNCTION jobsite_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never deleted, and keep their key', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;
CREATE TRIGGER queue_is_never_deleted BEFORE DELETE OR UPDATE OF id ON jobsite_queue FOR EACH ROW
    EXECUTE FUNCTION jobsite_never_deleted();
CREATE TRIGGER context_is_never_deleted BEFORE DELETE OR UPDATE OF key ON jobsite_capturedcontext FOR EACH ROW
    EXECUTE FUNCTION jobsite_never_deleted();
"""
DROP = """
DROP TRIGGER queue_is_never_deleted ON jobsite_queue;
DROP TRIGGER context_is_never_deleted ON jobsite_capturedcontext;
DROP FUNCTION jobsite_never_deleted();
"""


def _unchecked(to: str, **options: object) -> models.ForeignKey:
    return models.ForeignKey(to, django.db.models.deletion.PROTECT, db_constraint=False, db_index=False, **options)


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0008_secrets")]

    operations = [
        migrations.RunSQL(NEVER_DELETED, DROP),
        migrations.AlterField("job", "queue", _unchecked("jobsite_programs.queue", related_name="jobs")),
        migrations.AlterField("job", "context", _unchecked("jobsite_programs.capturedcontext", related_name="+")),
    ]
