-- The guard of jobsite_job: what a job's row may look like, and how it may change.
--
-- The database refuses what breaks a rule, whoever writes the row. The refusal is a check_violation (23514) that
-- carries the rule's name as the name of a constraint. A rule must be true: NULL breaks it. The first broken rule is
-- the one named.
--
-- Why a trigger and no CHECK constraints: PostgreSQL parses and plans a CHECK anew in each statement that writes the
-- table. Seventeen of them cost a statement over one job 0.1 ms, a quarter of its time. The expressions of a trigger
-- are planned once in a session.
--
-- The legal moves stand between the two marks below. `python -m tests.sql` writes them from
-- programs/rules/lifecycle.py, and tests/sql/test_functions.py fails while they differ. Change them there.

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
                          'PENDING',    -- claim, hold, block, requeue
                          'RUNNING',    -- claim
                          'CANCELED'    -- claim, cancel
                      )
                      WHEN 'RUNNING' THEN NEW.status IN (
                          'PENDING',    -- finish, give back, reap, expire
                          'WAITING',    -- finish
                          'COMPLETED',  -- finish
                          'FAILED',     -- finish, give back, reap, expire
                          'CANCELED'    -- finish, give back, reap, expire
                      )
                      WHEN 'WAITING' THEN NEW.status IN (
                          'PENDING',    -- resolve
                          'COMPLETED',  -- resolve
                          'FAILED',     -- resolve
                          'CANCELED'    -- cancel
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

        -- A parent that waits for its children may have the outcome WARNING already.
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
