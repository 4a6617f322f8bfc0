"""References between rows of one tenant."""

from django.db import migrations

# A reference between rows of tenants carries the tenant: a row can only point at a row of its own tenant.
SAME_TENANT = """
ALTER TABLE jobsite_translation
    ADD CONSTRAINT translation_template_of_same_tenant
        FOREIGN KEY (tenant_id, template_id) REFERENCES jobsite_template (tenant_id, id) ON DELETE CASCADE;
ALTER TABLE jobsite_rule
    ADD CONSTRAINT rule_group_of_same_tenant
        FOREIGN KEY (tenant_id, group_id) REFERENCES jobsite_group (tenant_id, id) ON DELETE CASCADE,
    ADD CONSTRAINT rule_template_of_same_tenant
        FOREIGN KEY (tenant_id, template_id) REFERENCES jobsite_template (tenant_id, id);
ALTER TABLE jobsite_delivery
    ADD CONSTRAINT delivery_rule_of_same_tenant
        FOREIGN KEY (tenant_id, rule_id) REFERENCES jobsite_rule (tenant_id, id) ON DELETE SET NULL (rule_id);
"""
NO_REFERENCES = """
ALTER TABLE jobsite_translation DROP CONSTRAINT translation_template_of_same_tenant;
ALTER TABLE jobsite_rule DROP CONSTRAINT rule_group_of_same_tenant;
ALTER TABLE jobsite_rule DROP CONSTRAINT rule_template_of_same_tenant;
ALTER TABLE jobsite_delivery DROP CONSTRAINT delivery_rule_of_same_tenant;
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_notifications", "0001_initial")]

    operations = [
        migrations.RunSQL(SAME_TENANT, NO_REFERENCES),
    ]
