"""What Django's constraints cannot say: moves, finality, tenant-true references, partitions, append-only audit."""

from django.db import migrations

# As programs/lifecycle.py had them when this was written; a test compares what the database does with it.
MOVES = (
    ("PENDING", "CANCELED"),
    ("PENDING", "QUEUED"),
    ("QUEUED", "CANCELED"),
    ("QUEUED", "PENDING"),
    ("QUEUED", "RUNNING"),
    ("RUNNING", "CANCELED"),
    ("RUNNING", "COMPLETED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "PENDING"),
    ("RUNNING", "WAITING"),
    ("WAITING", "CANCELED"),
    ("WAITING", "COMPLETED"),
    ("WAITING", "FAILED"),
    ("WAITING", "PENDING"),
)
TERMINAL = ("CANCELED", "COMPLETED", "FAILED")

_moves = ", ".join(f"('{source}','{target}')" for source, target in MOVES)
_terminal = ", ".join(f"'{status}'" for status in TERMINAL)

RANK = """
ALTER TABLE jobsite_job ADD CONSTRAINT job_rank_is_due_at_less_priority
    CHECK (rank = due_at - priority * interval '60 seconds')
"""

# Refusals carry a constraint's name, so that callers see them as they see any other constraint.
JOB_GUARD = f"""
CREATE FUNCTION jobsite_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status NOT IN ({_terminal}) THEN
            RAISE EXCEPTION 'job % is % and cannot be deleted', OLD.number, OLD.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'job_open_is_never_deleted', TABLE = 'jobsite_job';
        END IF;
        RETURN OLD;
    END IF;
    broken := CASE
        WHEN OLD.status IN ({_terminal}) AND (
                NEW.status <> OLD.status OR NEW.outcome <> OLD.outcome
                OR NEW.result IS DISTINCT FROM OLD.result OR NEW.error IS DISTINCT FROM OLD.error
                OR NEW.failure_kind IS DISTINCT FROM OLD.failure_kind
                OR NEW.finished_at IS DISTINCT FROM OLD.finished_at
                OR NEW.attempts <> OLD.attempts OR NEW.losses <> OLD.losses) THEN 'job_terminal_is_final'
        WHEN NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN ({_moves}) THEN 'job_moves_are_legal'
        WHEN NEW.fence < OLD.fence THEN 'job_fence_never_falls'
        WHEN NEW.scheduled_at <> OLD.scheduled_at THEN 'job_scheduled_at_never_changes'
        WHEN NEW.tenant_id <> OLD.tenant_id THEN 'job_tenant_never_changes'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'job % refuses to go from % to % (%)', OLD.number, OLD.status, NEW.status, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = 'jobsite_job';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER job_guard BEFORE UPDATE ON jobsite_job FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.status IN ({_terminal}) OR NEW.fence < OLD.fence
          OR NEW.scheduled_at <> OLD.scheduled_at OR NEW.tenant_id <> OLD.tenant_id)
    EXECUTE FUNCTION jobsite_job_guard();
CREATE TRIGGER job_guard_delete BEFORE DELETE ON jobsite_job FOR EACH ROW
    EXECUTE FUNCTION jobsite_job_guard();
"""
JOB_GUARD_DROP = """
DROP TRIGGER job_guard ON jobsite_job;
DROP TRIGGER job_guard_delete ON jobsite_job;
DROP FUNCTION jobsite_job_guard();
"""

# A reference between rows of tenants carries the tenant: a row can only point at its own tenant's rows.
REFERENCES = {
    "job_program_of_same_tenant": "jobsite_job (tenant_id, program_id) jobsite_program (tenant_id, id)",
    "job_parent_of_same_tenant": "jobsite_job (tenant_id, parent_id) jobsite_job (tenant_id, number)",
    "job_retry_of_same_tenant": "jobsite_job (tenant_id, retry_of_id) jobsite_job (tenant_id, number)",
    "action_program_of_same_tenant": "jobsite_action (tenant_id, program_id) jobsite_program (tenant_id, id)",
    "attempt_job_of_same_tenant": "jobsite_jobattempt (tenant_id, job_id) jobsite_job (tenant_id, number)",
}


def _add_reference(name: str, reference: str) -> str:
    table, columns, target = (
        reference.split(" ", 1)[0],
        reference.split("(")[1].split(")")[0],
        reference.split(") ")[1],
    )
    cascade = " ON DELETE CASCADE" if table in ("jobsite_jobattempt", "jobsite_action") else ""
    return f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY ({columns}) REFERENCES {target}{cascade};"


ADD_REFERENCES = "\n".join(_add_reference(name, reference) for name, reference in REFERENCES.items())
DROP_REFERENCES = "\n".join(
    f"ALTER TABLE {reference.split(' ')[0]} DROP CONSTRAINT {name};" for name, reference in REFERENCES.items()
)

LOGS = """
CREATE TABLE jobsite_joblogentry (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    tenant_id bigint NOT NULL,
    job_number bigint NOT NULL,
    sequence bigint NOT NULL,
    attempt integer NOT NULL,
    step varchar(100) NOT NULL DEFAULT '',
    stream varchar(6) NOT NULL CONSTRAINT log_stream_known CHECK (stream IN ('log', 'stdout', 'stderr')),
    severity varchar(8) NOT NULL CONSTRAINT log_severity_known
        CHECK (severity IN ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')),
    message text NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX log_of_job ON jobsite_joblogentry (job_number, sequence);
CREATE TABLE jobsite_joblogentry_default PARTITION OF jobsite_joblogentry DEFAULT;

-- Makes the partition of the month that holds `moment`; does nothing where it exists.
CREATE FUNCTION jobsite_create_log_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_day timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF jobsite_joblogentry FOR VALUES FROM (%L) TO (%L)',
        'jobsite_joblogentry_' || to_char(first_day, 'YYYY_MM'),
        first_day AT TIME ZONE 'UTC', (first_day + interval '1 month') AT TIME ZONE 'UTC');
END $$;
SELECT jobsite_create_log_partition(now() + months * interval '1 month') FROM generate_series(0, 3) AS months;
"""
LOGS_DROP = "DROP TABLE jobsite_joblogentry; DROP FUNCTION jobsite_create_log_partition(timestamptz);"

AUDIT = """
CREATE FUNCTION jobsite_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed or deleted'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_is_append_only', TABLE = 'jobsite_auditentry';
END $$;
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON jobsite_auditentry FOR EACH ROW
    EXECUTE FUNCTION jobsite_audit_guard();
"""
AUDIT_DROP = "DROP TRIGGER audit_guard ON jobsite_auditentry; DROP FUNCTION jobsite_audit_guard();"


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0001_initial")]

    operations = [
        migrations.RunSQL(RANK, "ALTER TABLE jobsite_job DROP CONSTRAINT job_rank_is_due_at_less_priority"),
        migrations.RunSQL(JOB_GUARD, JOB_GUARD_DROP),
        migrations.RunSQL(ADD_REFERENCES, DROP_REFERENCES),
        migrations.RunSQL(LOGS, LOGS_DROP),
        migrations.RunSQL(AUDIT, AUDIT_DROP),
    ]
