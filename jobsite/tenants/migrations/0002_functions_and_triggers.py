"""The audit is append-only. A frozen copy: jobsite/tenants/sql/ holds the current text."""

from django.db import migrations

AUDIT_GUARD = """
CREATE OR REPLACE FUNCTION jobsite_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed or deleted'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_is_append_only', TABLE = 'jobsite_auditentry';
END $$;

CREATE OR REPLACE TRIGGER audit_guard
    BEFORE UPDATE OR DELETE ON jobsite_auditentry
    FOR EACH ROW EXECUTE FUNCTION jobsite_audit_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_tenants", "0001_initial")]

    operations = [migrations.RunSQL(AUDIT_GUARD, "DROP FUNCTION jobsite_audit_guard CASCADE")]
