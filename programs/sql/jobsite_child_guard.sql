-- A child of a job may be committed only while the run that spawned it goes on.
--
-- The check runs at the commit. A child is inserted in the transaction of an action, which may take long: meanwhile
-- the run may be lost and the job may end. The lock makes the parent's finish come after this commit, so that the
-- finish sees the child. The lock is held only during the commit.

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
