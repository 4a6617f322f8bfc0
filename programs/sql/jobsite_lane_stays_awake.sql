-- Whether a submission may leave its lane as it is, because the lane is awake and stays awake until it has committed.
--
-- A lane is the jobs of one tenant in one queue. Submission and dispatch agree by an advisory lock on the lane:
--   submission  takes the lock shared, then looks at the lane, and keeps the lock until it has committed (this function);
--   dispatch    takes the lock exclusively, then looks once more for jobs, before it closes a lane
--               (jobsite_lane_is_empty).
-- So a lane is closed only when it is certainly empty, and a submission that finds it awake writes nothing.
--
-- Both must look after they have the lock. The functions are VOLATILE: under READ COMMITTED each of their statements
-- takes a new snapshot. Where the database's default isolation is stricter, dispatch may close a lane that has a job;
-- the sweep opens it again.

CREATE OR REPLACE FUNCTION jobsite_lane_stays_awake(queue bigint, tenant bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashint8extended(tenant, queue));
    RETURN EXISTS (
        SELECT FROM jobsite_lane l
        WHERE l.queue_id = queue AND l.tenant_id = tenant AND l.is_waiting
    );
END $$;
