"""What must hold of all jobs after every story (PROTOCOL, "Invariants"), whatever was broken in it."""

from django.db import connection

RULES = {
    "I2: COMPLETED with exactly one SUCCESS attempt, nothing else with one": """
        SELECT j.number FROM jobsite_job j
        WHERE (j.status = 'COMPLETED') <> ((SELECT count(*) FROM jobsite_jobattempt a
                                            WHERE a.job_id = j.number AND a.result = 'SUCCESS') = 1)
    """,
    "I4: the fence is the highest among the attempts and the running one": """
        SELECT j.number FROM jobsite_job j
        WHERE j.fence <> (SELECT coalesce(max(a.fence), 0) FROM jobsite_jobattempt a WHERE a.job_id = j.number)
                         + CASE WHEN j.status = 'RUNNING' THEN 1 ELSE 0 END
    """,
    "I4: the counters match the attempts": """
        SELECT j.number FROM jobsite_job j
        WHERE (j.attempts, j.losses) <> (
            SELECT count(*) FILTER (WHERE a.result <> 'RETURNED'),
                   count(*) FILTER (WHERE a.result IN ('LOST', 'CLEARED'))
            FROM jobsite_jobattempt a WHERE a.job_id = j.number)
    """,
    "I5: attempts do not overlap unless the earlier was taken away": """
        SELECT a.job_id FROM jobsite_jobattempt a
        JOIN jobsite_jobattempt b ON b.job_id = a.job_id AND b.fence > a.fence AND b.claimed_at < a.ended_at
        WHERE a.result NOT IN ('LOST', 'TIMEOUT', 'CLEARED')
    """,
    "I6: nothing moves after the end": """
        SELECT j.number FROM jobsite_job j JOIN jobsite_jobattempt a ON a.job_id = j.number
        WHERE a.ended_at > j.finished_at + interval '1 second' OR a.claimed_at > j.finished_at
    """,
}


def broken() -> dict[str, list[int]]:
    """The rules that do not hold, with the numbers of the jobs."""
    found = {}
    with connection.cursor() as cursor:
        for rule, query in RULES.items():
            cursor.execute(query)
            if numbers := [row[0] for row in cursor.fetchall()]:
                found[rule] = numbers
    return found
