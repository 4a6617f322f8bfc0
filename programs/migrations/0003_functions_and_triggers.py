"""The functions and triggers of jobs. Frozen copies: programs/sql/ holds the current texts, with their reasons."""

from django.db import migrations

JOB_GUARD = """
CREATE OR REPLACE FUNCTION jobsite_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status NOT IN ('CANCELED', 'COMPLETED', 'FAILED') THEN
            RAISE EXCEPTION 'job % is % and cannot be deleted', OLD.number, OLD.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'job_open_is_never_deleted', TABLE = 'jobsite_job';
        END IF;
        RETURN OLD;
    END IF;

    -- How a row may change.
    IF TG_OP = 'UPDATE' THEN
        broken := CASE
            WHEN (OLD.status NOT IN ('CANCELED', 'COMPLETED', 'FAILED')
                  OR (NEW.status = OLD.status
                      AND NEW.outcome = OLD.outcome
                      AND NEW.result IS NOT DISTINCT FROM OLD.result
                      AND NEW.error IS NOT DISTINCT FROM OLD.error
                      AND NEW.failure_kind IS NOT DISTINCT FROM OLD.failure_kind
                      AND NEW.finished_at IS NOT DISTINCT FROM OLD.finished_at
                      AND NEW.attempts = OLD.attempts
                      AND NEW.losses = OLD.losses)
                 ) IS NOT TRUE THEN 'job_terminal_is_final'

            WHEN (NEW.status = OLD.status
                  OR CASE OLD.status
                      -- Moves: begin
                      WHEN 'PENDING' THEN NEW.status IN (
                          'QUEUED',     -- dispatch
                          'CANCELED'    -- cancel
                      )
                      WHEN 'QUEUED' THEN NEW.status IN (
                          'PENDING',    -- claim, hold, requeue
                          'RUNNING',    -- claim
                          'CANCELED'    -- cancel
                      )
                      WHEN 'RUNNING' THEN NEW.status IN (
                          'PENDING',    -- finish, give back, reap, expire
                          'WAITING',    -- finish
                          'COMPLETED',  -- finish
                          'FAILED',     -- finish, give back, reap, expire
                          'CANCELED'    -- finish, reap
                      )
                      WHEN 'WAITING' THEN NEW.status IN (
                          'PENDING',    -- resolve
                          'COMPLETED',  -- resolve
                          'FAILED',     -- resolve
                          'CANCELED'    -- cancel, resolve
                      )
                      -- Moves: end
                      ELSE false
                  END
                 ) IS NOT TRUE THEN 'job_moves_are_legal'

            WHEN (NEW.fence >= OLD.fence
                 ) IS NOT TRUE THEN 'job_fence_never_falls'

            WHEN (NEW.scheduled_at = OLD.scheduled_at
                 ) IS NOT TRUE THEN 'job_scheduled_at_never_changes'

            WHEN (NEW.tenant_id = OLD.tenant_id
                 ) IS NOT TRUE THEN 'job_tenant_never_changes'
        END;
        IF broken IS NOT NULL THEN
            RAISE EXCEPTION 'job % refuses to go from % to % (%)', OLD.number, OLD.status, NEW.status, broken
                USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = 'jobsite_job';
        END IF;
    END IF;

    -- What a row may look like.
    broken := CASE
        WHEN (NEW.status IN ('PENDING', 'QUEUED', 'RUNNING', 'WAITING', 'CANCELED', 'COMPLETED', 'FAILED')
             ) IS NOT TRUE THEN 'job_status_known'

        WHEN (NEW.trigger IN ('AUTOMATIC', 'MANUAL', 'CHILD')
             ) IS NOT TRUE THEN 'job_trigger_known'

        WHEN (NEW.priority BETWEEN -100 AND 100
             ) IS NOT TRUE THEN 'job_priority_in_range'

        -- One step of priority is worth one minute of waiting.
        WHEN (NEW.rank = NEW.due_at - NEW.priority * interval '60 seconds'
             ) IS NOT TRUE THEN 'job_rank_is_due_at_less_priority'

        WHEN (CASE NEW.status
                  WHEN 'RUNNING' THEN NEW.lock_token IS NOT NULL
                                      AND NEW.lock_owner IS NOT NULL
                                      AND NEW.lock_expires_at IS NOT NULL
                                      AND NEW.claimed_at IS NOT NULL
                  ELSE NEW.lock_token IS NULL
                       AND NEW.lock_owner IS NULL
                       AND NEW.lock_expires_at IS NULL
              END
             ) IS NOT TRUE THEN 'job_locked_only_while_running'

        WHEN ((NEW.status IN ('CANCELED', 'COMPLETED', 'FAILED')) = (NEW.finished_at IS NOT NULL)
             ) IS NOT TRUE THEN 'job_finished_at_only_when_terminal'

        -- A parent that waits for its children may have warned already.
        WHEN (CASE NEW.status
                  WHEN 'FAILED' THEN NEW.outcome = 'ERROR'
                                     AND NEW.failure_kind IN
                                         ('PERMANENT', 'TRANSIENT', 'TIMEOUT', 'WORKER_LOST', 'REFUSED')
                  WHEN 'COMPLETED' THEN NEW.outcome IN ('NORMAL', 'WARNING') AND NEW.failure_kind IS NULL
                  WHEN 'WAITING' THEN NEW.outcome IN ('NORMAL', 'WARNING') AND NEW.failure_kind IS NULL
                  ELSE NEW.outcome = 'NORMAL' AND NEW.failure_kind IS NULL
              END
             ) IS NOT TRUE THEN 'job_outcome_follows_status'

        WHEN (NEW.blocked IS NULL
              OR (NEW.status = 'PENDING' AND NEW.blocked IN ('SCHEDULED', 'HELD', 'PAUSED', 'OVERLAP'))
             ) IS NOT TRUE THEN 'job_blocked_only_while_pending'

        WHEN ((NEW.hold_at IS NOT NULL) = (NEW.blocked IS NOT DISTINCT FROM 'HELD')
             ) IS NOT TRUE THEN 'job_held_with_a_moment'

        WHEN (CASE NEW.overlap_policy
                  WHEN 'ALLOW' THEN NEW.overlap_key IS NULL
                  ELSE NEW.overlap_policy IN ('REJECT', 'QUEUE') AND NEW.overlap_key IS NOT NULL
              END
             ) IS NOT TRUE THEN 'job_overlap_key_with_its_policy'

        WHEN ((NEW.parent_id IS NULL AND NEW.child_key IS NULL AND NEW.parent_fence IS NULL)
              OR (NEW.parent_id IS NOT NULL AND NEW.child_key IS NOT NULL AND NEW.parent_fence IS NOT NULL
                  AND NEW.trigger = 'CHILD')
             ) IS NOT TRUE THEN 'job_child_has_a_key'

        WHEN (NEW.losses BETWEEN 0 AND NEW.attempts AND NEW.attempts <= NEW.fence AND NEW.returns >= 0
             ) IS NOT TRUE THEN 'job_counters_add_up'

        WHEN (NEW.parked_fence IS NULL OR NEW.parked_fence BETWEEN 1 AND NEW.fence
             ) IS NOT TRUE THEN 'job_parked_under_a_fence_of_its_own'
    END;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'job % (%) breaks the rule %', NEW.number, NEW.status, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = 'jobsite_job';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER job_guard
    BEFORE INSERT OR UPDATE ON jobsite_job
    FOR EACH ROW EXECUTE FUNCTION jobsite_job_guard();

CREATE OR REPLACE TRIGGER job_guard_delete
    BEFORE DELETE ON jobsite_job
    FOR EACH ROW EXECUTE FUNCTION jobsite_job_guard();
"""

CHILD_GUARD = """
CREATE OR REPLACE FUNCTION jobsite_child_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM jobsite_job p
    WHERE p.number = NEW.parent_id AND p.status = 'RUNNING' AND p.fence = NEW.parent_fence
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job % does not run under fence % any more and gets no child', NEW.parent_id, NEW.parent_fence
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_spawned_by_a_run', TABLE = 'jobsite_job';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS job_spawned_by_a_run ON jobsite_job;
CREATE CONSTRAINT TRIGGER job_spawned_by_a_run
    AFTER INSERT ON jobsite_job
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION jobsite_child_guard();
"""

NEVER_DELETED = """
CREATE OR REPLACE FUNCTION jobsite_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never deleted, and keep their key', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

CREATE OR REPLACE TRIGGER queue_is_never_deleted
    BEFORE DELETE OR UPDATE OF id ON jobsite_queue
    FOR EACH ROW EXECUTE FUNCTION jobsite_never_deleted();

CREATE OR REPLACE TRIGGER context_is_never_deleted
    BEFORE DELETE OR UPDATE OF key ON jobsite_capturedcontext
    FOR EACH ROW EXECUTE FUNCTION jobsite_never_deleted();
"""

LANE_STAYS_AWAKE = """
CREATE OR REPLACE FUNCTION jobsite_lane_stays_awake(queue bigint, tenant bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashint8extended(tenant, queue));
    RETURN EXISTS (
        SELECT FROM jobsite_lane l
        WHERE l.queue_id = queue AND l.tenant_id = tenant AND l.is_waiting
    );
END $$;
"""

LANE_IS_EMPTY = """
CREATE OR REPLACE FUNCTION jobsite_lane_is_empty(queue bigint, tenant bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashint8extended(tenant, queue)) THEN
        RETURN false;
    END IF;
    RETURN NOT EXISTS (
        SELECT FROM jobsite_job j
        WHERE j.queue_id = queue AND j.tenant_id = tenant AND j.status = 'PENDING' AND j.blocked IS NULL
    );
END $$;
"""

CREATE_LOG_PARTITION = """
CREATE OR REPLACE FUNCTION jobsite_create_log_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_day timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF jobsite_joblogentry FOR VALUES FROM (%L) TO (%L)',
        'jobsite_joblogentry_' || to_char(first_day, 'YYYY_MM'),
        first_day AT TIME ZONE 'UTC',
        (first_day + interval '1 month') AT TIME ZONE 'UTC'
    );
END $$;
"""

# Of this month and three ahead; the system program partition_creation makes the later ones.
LOG_PARTITIONS = """
SELECT jobsite_create_log_partition(now() + months * interval '1 month') FROM generate_series(0, 3) AS months
"""


class Migration(migrations.Migration):
    dependencies = [
        ("jobsite_programs", "0002_references_and_storage"),
        ("jobsite_notifications", "0003_functions_and_triggers"),
        ("jobsite_tenants", "0002_functions_and_triggers"),
    ]

    operations = [
        migrations.RunSQL(JOB_GUARD, "DROP FUNCTION jobsite_job_guard CASCADE"),
        migrations.RunSQL(CHILD_GUARD, "DROP FUNCTION jobsite_child_guard CASCADE"),
        migrations.RunSQL(NEVER_DELETED, "DROP FUNCTION jobsite_never_deleted CASCADE"),
        migrations.RunSQL(LANE_STAYS_AWAKE, "DROP FUNCTION jobsite_lane_stays_awake"),
        migrations.RunSQL(LANE_IS_EMPTY, "DROP FUNCTION jobsite_lane_is_empty"),
        migrations.RunSQL(CREATE_LOG_PARTITION, "DROP FUNCTION jobsite_create_log_partition"),
        migrations.RunSQL(LOG_PARTITIONS, migrations.RunSQL.noop),
    ]
