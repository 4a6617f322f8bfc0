"""A program's failures in a row, counted with the ends of its jobs; at its maximum it is terminated."""

from jobsite.programs.rules.lifecycle import Trigger
from jobsite.tenants import audit

COUNTS = "(p.max_consecutive_failures IS NOT NULL OR p.notification_group_id IS NOT NULL)"
"""Whether the failures of program `p` are counted: it has a maximum, or rules that may wait for several in a row."""

_TOTAL = "CASE WHEN c.has_success THEN c.after ELSE p.consecutive_failures + c.before END"
_ENDS = """(c.peak >= p.max_consecutive_failures
             OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures))"""

_TERMINATED = audit.by_the_system(
    "counted WHERE status = 'TERMINATED' AND status_before <> 'TERMINATED'",
    door="'worker'",
    action="'terminate program'",
    target_type="'program'",
    target="code",
    reason="max_consecutive_failures || ' failures in a row'",
    before="jsonb_build_object('status', status_before)",
    after="jsonb_build_object('status', status)",
)
IS_TERMINATED = "its program is terminated"
"""The reason for which a schedule's job is canceled. A terminated program runs only what no schedule has made."""


def ends_with_its_program(trigger: str) -> str:
    """Whether a job of this trigger is canceled since its program `p` was terminated."""
    return f"p.status = 'TERMINATED' AND {trigger} = '{Trigger.AUTOMATIC}'"


def may_run_though_terminated(trigger: str) -> str:
    """The opposite: whether a job of this trigger may run, as far as the status of its program `p` goes."""
    return f"(p.status <> 'TERMINATED' OR {trigger} <> '{Trigger.AUTOMATIC}')"


def counted(ended: str) -> str:
    """The parts of a statement that count failures in a row in its part `ended`: rows (program_id, number, target).

    They count in order of number, in which a group runs: the failures before the first success, those after the last,
    and the most between two. The part `runs` says how many in a row each row makes within the statement, `counted` what
    the program has then. A program's row is written only when it changes: if every finish wrote it, all finishes would
    wait for it.
    """
    return f""", runs AS (
    SELECT number, program_id, target, stretch,
           count(*) FILTER (WHERE target = 'FAILED') OVER (PARTITION BY program_id, stretch ORDER BY number) AS streak
    FROM (SELECT number, program_id, target,
                 count(*) FILTER (WHERE target = 'COMPLETED') OVER (PARTITION BY program_id ORDER BY number) AS stretch
          FROM {ended}) e
), counted AS (
    UPDATE jobsite_program p
    SET consecutive_failures = {_TOTAL},
        status = CASE WHEN {_ENDS} THEN 'TERMINATED' ELSE p.status END,
        updated_at = CASE WHEN {_ENDS} THEN clock_timestamp() ELSE p.updated_at END
    FROM (SELECT s.program_id, max(s.stretch) > 0 AS has_success, q.status AS status_before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch = 0), 0) AS before,
                 coalesce(max(s.failures) FILTER (WHERE s.stretch > 0), 0) AS peak,
                 (array_agg(s.failures ORDER BY s.stretch DESC))[1] AS after
          FROM (SELECT program_id, stretch, count(*) FILTER (WHERE target = 'FAILED') AS failures
                FROM runs
                GROUP BY program_id, stretch) s
          JOIN jobsite_program q ON q.id = s.program_id
          GROUP BY s.program_id, q.status ORDER BY s.program_id) c
    WHERE p.id = c.program_id AND {COUNTS}
          AND (c.before > 0 OR c.peak > 0 OR (c.has_success AND p.consecutive_failures > 0))
    RETURNING p.id, p.tenant_id, p.code, p.max_consecutive_failures, p.consecutive_failures, p.status,
              c.status_before, c.before, c.has_success
), terminated AS (
    {_TERMINATED}
)"""
