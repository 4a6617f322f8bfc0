"""What a job's row may look like and how it may change, said by one trigger.

A CHECK constraint is parsed and planned anew in each statement that writes the table: the seventeen that stood here cost
a statement over one job 0.1 ms, a quarter of its time. A trigger's expressions are planned once in a session.
"""

from django.db import migrations, models

# As programs/lifecycle.py had them when this was written; a test compares what the database does with it.
MOVES = {
    "PENDING": ("CANCELED", "QUEUED"),
    "QUEUED": ("CANCELED", "PENDING", "RUNNING"),
    "RUNNING": ("CANCELED", "COMPLETED", "FAILED", "PENDING", "WAITING"),
    "WAITING": ("CANCELED", "COMPLETED", "FAILED", "PENDING"),
}
_terminal = "('CANCELED', 'COMPLETED', 'FAILED')"
_moves = "\n                  ".join(
    f"WHEN '{source}' THEN NEW.status IN ({', '.join(repr(target) for target in targets)})"
    for source, targets in MOVES.items()
)

# Each must be true, not merely not false. The first that is not is what the refusal names.
CHANGES = {
    "job_terminal_is_final": f"""
        OLD.status NOT IN {_terminal} OR (
            NEW.status = OLD.status AND NEW.outcome = OLD.outcome
            AND NEW.result IS NOT DISTINCT FROM OLD.result AND NEW.error IS NOT DISTINCT FROM OLD.error
            AND NEW.failure_kind IS NOT DISTINCT FROM OLD.failure_kind
            AND NEW.finished_at IS NOT DISTINCT FROM OLD.finished_at
            AND NEW.attempts = OLD.attempts AND NEW.losses = OLD.losses)""",
    "job_moves_are_legal": f"""
        NEW.status = OLD.status OR (CASE OLD.status
                  {_moves} END)""",
    "job_fence_never_falls": "NEW.fence >= OLD.fence",
    "job_scheduled_at_never_changes": "NEW.scheduled_at = OLD.scheduled_at",
    "job_tenant_never_changes": "NEW.tenant_id = OLD.tenant_id",
}
SHAPE = {
    "job_status_known": f"NEW.status IN ('PENDING', 'QUEUED', 'RUNNING', 'WAITING') OR NEW.status IN {_terminal}",
    "job_trigger_known": "NEW.trigger IN ('AUTOMATIC', 'MANUAL', 'CHILD')",
    "job_priority_in_range": "NEW.priority BETWEEN -100 AND 100",
    "job_rank_is_due_at_less_priority": "NEW.rank = NEW.due_at - NEW.priority * interval '60 seconds'",
    "job_locked_only_while_running": """
        (CASE NEW.status
             WHEN 'RUNNING' THEN NEW.lock_token IS NOT NULL AND NEW.lock_owner IS NOT NULL
                                 AND NEW.lock_expires_at IS NOT NULL AND NEW.claimed_at IS NOT NULL
             ELSE NEW.lock_token IS NULL AND NEW.lock_owner IS NULL AND NEW.lock_expires_at IS NULL END)""",
    "job_finished_at_only_when_terminal": f"(NEW.status IN {_terminal}) = (NEW.finished_at IS NOT NULL)",
    "job_outcome_follows_status": """
        (CASE NEW.status
             WHEN 'FAILED' THEN NEW.outcome = 'ERROR' AND NEW.failure_kind IN
                                ('PERMANENT', 'TRANSIENT', 'TIMEOUT', 'WORKER_LOST', 'REFUSED')
             WHEN 'COMPLETED' THEN NEW.outcome IN ('NORMAL', 'WARNING') AND NEW.failure_kind IS NULL
             ELSE NEW.outcome = 'NORMAL' AND NEW.failure_kind IS NULL END)""",
    "job_blocked_only_while_pending": """
        NEW.blocked IS NULL
        OR (NEW.status = 'PENDING' AND NEW.blocked IN ('SCHEDULED', 'HELD', 'PAUSED', 'OVERLAP'))""",
    "job_held_with_a_moment": "(NEW.hold_at IS NOT NULL) = (NEW.blocked IS NOT DISTINCT FROM 'HELD')",
    "job_overlap_key_with_its_policy": """
        (CASE NEW.overlap_policy
             WHEN 'ALLOW' THEN NEW.overlap_key IS NULL
             ELSE NEW.overlap_policy IN ('REJECT', 'QUEUE') AND NEW.overlap_key IS NOT NULL END)""",
    "job_child_has_a_key": """
        (NEW.parent_id IS NULL AND NEW.child_key IS NULL)
        OR (NEW.parent_id IS NOT NULL AND NEW.child_key IS NOT NULL AND NEW.trigger = 'CHILD')""",
    "job_counters_add_up": """
        NEW.losses BETWEEN 0 AND NEW.attempts AND NEW.attempts <= NEW.fence AND NEW.returns >= 0""",
}


def _all(rules: dict[str, str]) -> str:
    return "\n        AND ".join(f"({rule})" for rule in rules.values())


def _first_broken(rules: dict[str, str]) -> str:
    return "\n        ".join(f"WHEN ({rule}) IS NOT TRUE THEN '{name}'" for name, rule in rules.items())


# The usual case, that all is well, is one expression; rule by rule is asked only to say what is wrong. Refusals
# carry the rule's name as that of a constraint, so that callers see them as they see any other.
def guard(changes: dict[str, str], shape: dict[str, str]) -> str:
    """The trigger's function, with these rules for what changes and for what a row looks like."""
    return f"""
CREATE OR REPLACE FUNCTION jobsite_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.status NOT IN {_terminal} THEN
            RAISE EXCEPTION 'job % is % and cannot be deleted', OLD.number, OLD.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'job_open_is_never_deleted', TABLE = 'jobsite_job';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF {_all(changes | shape)} THEN
            RETURN NEW;
        END IF;
        broken := CASE
        {_first_broken(changes)} END;
        IF broken IS NOT NULL THEN
            RAISE EXCEPTION 'job % refuses to go from % to % (%)', OLD.number, OLD.status, NEW.status, broken
                USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = 'jobsite_job';
        END IF;
    ELSIF {_all(shape)} THEN
        RETURN NEW;
    END IF;
    broken := CASE
        {_first_broken(shape)} END;
    RAISE EXCEPTION 'job % (%) breaks the rule %', NEW.number, NEW.status, broken
        USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = 'jobsite_job';
END $$;
"""


JOB_GUARD = f"""
{guard(CHANGES, SHAPE)}
DROP TRIGGER job_guard ON jobsite_job;
CREATE TRIGGER job_guard BEFORE INSERT OR UPDATE ON jobsite_job FOR EACH ROW EXECUTE FUNCTION jobsite_job_guard();
"""

CHECKS = (
    "job_blocked_only_while_pending",
    "job_child_has_a_key",
    "job_counters_add_up",
    "job_finished_at_only_when_terminal",
    "job_held_with_a_moment",
    "job_locked_only_while_running",
    "job_outcome_follows_status",
    "job_overlap_key_with_its_policy",
    "job_priority_in_range",
    "job_status_known",
    "job_trigger_known",
)


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0002_guards")]

    operations = [
        *(migrations.RemoveConstraint(model_name="job", name=name) for name in CHECKS),
        migrations.RunSQL("ALTER TABLE jobsite_job DROP CONSTRAINT job_rank_is_due_at_less_priority"),
        # Without the CHECKs that Django gives a positive integer.
        migrations.AlterField("job", "attempts", models.IntegerField(db_default=0)),
        migrations.AlterField("job", "losses", models.IntegerField(db_default=0)),
        migrations.AlterField("job", "returns", models.IntegerField(db_default=0)),
        migrations.AlterField("job", "fence", models.BigIntegerField(db_default=0)),
        migrations.RunSQL(JOB_GUARD),
    ]
