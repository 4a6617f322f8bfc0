"""What Django cannot say of tables: references within a tenant, vacuum, partitions."""

from django.db import migrations

# A reference between rows of tenants carries the tenant: a row can only point at a row of its own tenant.
SAME_TENANT = """
ALTER TABLE jobsite_program
    ADD CONSTRAINT program_group_of_same_tenant
        FOREIGN KEY (tenant_id, notification_group_id) REFERENCES jobsite_group (tenant_id, id);
ALTER TABLE jobsite_action
    ADD CONSTRAINT action_program_of_same_tenant
        FOREIGN KEY (tenant_id, program_id) REFERENCES jobsite_program (tenant_id, id) ON DELETE CASCADE;
ALTER TABLE jobsite_job
    ADD CONSTRAINT job_program_of_same_tenant
        FOREIGN KEY (tenant_id, program_id) REFERENCES jobsite_program (tenant_id, id),
    ADD CONSTRAINT job_parent_of_same_tenant
        FOREIGN KEY (tenant_id, parent_id) REFERENCES jobsite_job (tenant_id, number),
    ADD CONSTRAINT job_retry_of_same_tenant
        FOREIGN KEY (tenant_id, retry_of_id) REFERENCES jobsite_job (tenant_id, number);
ALTER TABLE jobsite_jobattempt
    ADD CONSTRAINT attempt_job_of_same_tenant
        FOREIGN KEY (tenant_id, job_id) REFERENCES jobsite_job (tenant_id, number) ON DELETE CASCADE;
ALTER TABLE jobsite_jobstep
    ADD CONSTRAINT step_job_of_same_tenant
        FOREIGN KEY (tenant_id, job_id) REFERENCES jobsite_job (tenant_id, number) ON DELETE CASCADE;
ALTER TABLE jobsite_schedule
    ADD CONSTRAINT schedule_program_of_same_tenant
        FOREIGN KEY (tenant_id, program_id) REFERENCES jobsite_program (tenant_id, id);
ALTER TABLE jobsite_firing
    ADD CONSTRAINT firing_schedule_of_same_tenant
        FOREIGN KEY (tenant_id, schedule_id) REFERENCES jobsite_schedule (tenant_id, id) ON DELETE CASCADE;
"""
NO_REFERENCES = """
ALTER TABLE jobsite_program DROP CONSTRAINT program_group_of_same_tenant;
ALTER TABLE jobsite_action DROP CONSTRAINT action_program_of_same_tenant;
ALTER TABLE jobsite_job DROP CONSTRAINT job_program_of_same_tenant;
ALTER TABLE jobsite_job DROP CONSTRAINT job_parent_of_same_tenant;
ALTER TABLE jobsite_job DROP CONSTRAINT job_retry_of_same_tenant;
ALTER TABLE jobsite_jobattempt DROP CONSTRAINT attempt_job_of_same_tenant;
ALTER TABLE jobsite_jobstep DROP CONSTRAINT step_job_of_same_tenant;
ALTER TABLE jobsite_schedule DROP CONSTRAINT schedule_program_of_same_tenant;
ALTER TABLE jobsite_firing DROP CONSTRAINT firing_schedule_of_same_tenant;
"""

# Jobs are vacuumed after a hundredth of the table has changed, its indexes too, however long the history is. A job that
# moves on leaves an entry behind in each small index of what is ready, QUEUED or RUNNING, and whoever looks for the
# first one walks past them all: with a million finished jobs, 1,423 submissions a second became 811 within 200,000
# jobs. Left to itself the server waits for a fifth of the table, and then leaves the indexes alone where few pages of
# the table have changed.
VACUUM = """
ALTER TABLE jobsite_job SET (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 10000,
    vacuum_index_cleanup = on
)
"""
VACUUM_AS_USUAL = """
ALTER TABLE jobsite_job RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, vacuum_index_cleanup)
"""

# Log lines by month. Neither a foreign key nor a trigger: a line costs as little as it can.
LOG_LINES = """
CREATE TABLE jobsite_joblogentry (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    tenant_id bigint NOT NULL,
    job_number bigint NOT NULL,
    sequence bigint NOT NULL,
    attempt integer NOT NULL,
    step varchar(100) NOT NULL DEFAULT '',
    stream varchar(6) NOT NULL
        CONSTRAINT log_stream_known CHECK (stream IN ('log', 'stdout', 'stderr')),
    severity varchar(8) NOT NULL
        CONSTRAINT log_severity_known CHECK (severity IN ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')),
    message text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX log_of_job ON jobsite_joblogentry (job_number, sequence);
CREATE TABLE jobsite_joblogentry_default PARTITION OF jobsite_joblogentry DEFAULT;
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0001_initial")]

    operations = [
        migrations.RunSQL(SAME_TENANT, NO_REFERENCES),
        migrations.RunSQL(VACUUM, VACUUM_AS_USUAL),
        migrations.RunSQL(LOG_LINES, "DROP TABLE jobsite_joblogentry"),
    ]
