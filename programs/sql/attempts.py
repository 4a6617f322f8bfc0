"""The row of an attempt, written by the statement that ends the run."""


def with_attempts(
    ended: str,
    *,
    result: str,
    worker: str = "%(worker)s::text",
    error: str = "NULL::jsonb",
    traceback: str = "''",
    join: str = "",
) -> str:
    """The part of a statement that writes an attempt for each row of its part `ended`.

    `ended` has number, tenant_id, fence, token, external_id, claimed_at and started_at. The worker's name, the result,
    the error and its traceback are expressions of its row `m`, and of what is joined to it.
    """
    return f""", attempt AS (
    INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, external_id, claimed_at, started_at,
                                    ended_at, result, error, traceback)
    SELECT m.tenant_id, m.number, m.fence, m.token, {worker}, m.external_id, m.claimed_at, m.started_at,
           clock_timestamp(), {result}, {error}, {traceback}
    FROM {ended} m{join and " " + join}
)"""
