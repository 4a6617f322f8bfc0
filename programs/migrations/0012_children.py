"""Children of jobs: which run spawned them, and which run their parent's callback follows."""

from importlib import import_module

from django.db import migrations, models

_one_guard = import_module("jobsite.programs.migrations.0003_one_guard")

SHAPE = _one_guard.SHAPE | {
    # A parent that waits has perhaps warned already.
    "job_outcome_follows_status": """
        (CASE NEW.status
             WHEN 'FAILED' THEN NEW.outcome = 'ERROR' AND NEW.failure_kind IN
                                ('PERMANENT', 'TRANSIENT', 'TIMEOUT', 'WORKER_LOST', 'REFUSED')
             WHEN 'COMPLETED' THEN NEW.outcome IN ('NORMAL', 'WARNING') AND NEW.failure_kind IS NULL
             WHEN 'WAITING' THEN NEW.outcome IN ('NORMAL', 'WARNING') AND NEW.failure_kind IS NULL
             ELSE NEW.outcome = 'NORMAL' AND NEW.failure_kind IS NULL END)""",
    "job_child_has_a_key": """
        (NEW.parent_id IS NULL AND NEW.child_key IS NULL AND NEW.parent_fence IS NULL)
        OR (NEW.parent_id IS NOT NULL AND NEW.child_key IS NOT NULL AND NEW.parent_fence IS NOT NULL
            AND NEW.trigger = 'CHILD')""",
    "job_parked_under_a_fence_of_its_own": "NEW.parked_fence IS NULL OR NEW.parked_fence BETWEEN 1 AND NEW.fence",
}

# Asked at the commit, since a child is inserted in a transaction of the action's, which may take long: meanwhile the run
# that spawned it may have been lost, and its job have ended. The lock makes the parent's finish come after this commit,
# so that it sees the child; it is held for the commit alone.
CHILD_GUARD = """
CREATE FUNCTION jobsite_child_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM jobsite_job
    WHERE number = NEW.parent_id AND status = 'RUNNING' AND fence = NEW.parent_fence FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job % does not run under fence % any more and gets no child', NEW.parent_id, NEW.parent_fence
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_spawned_by_a_run', TABLE = 'jobsite_job';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER job_spawned_by_a_run AFTER INSERT ON jobsite_job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION jobsite_child_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0011_steps")]

    operations = [
        migrations.AddField("job", "parent_fence", models.BigIntegerField(null=True)),
        migrations.AddField("job", "parked_fence", models.BigIntegerField(null=True)),
        migrations.AddField(
            "program",
            "on_child_failure",
            models.CharField(
                choices=[("WARN", "Warn"), ("FAIL", "Fail"), ("IGNORE", "Ignore")],
                db_default="WARN",
                default="WARN",
                max_length=6,
            ),
        ),
        migrations.AddField(
            "program", "cancel_children_on_failure", models.BooleanField(db_default=False, default=False)
        ),
        migrations.AddConstraint(
            "program",
            models.CheckConstraint(
                condition=models.Q(on_child_failure__in=["WARN", "FAIL", "IGNORE"]),
                name="program_on_child_failure_known",
            ),
        ),
        migrations.AddField("action", "is_callback", models.BooleanField(db_default=False, default=False)),
        migrations.AddConstraint(
            "action",
            models.UniqueConstraint(
                condition=models.Q(is_callback=True), fields=("program",), name="action_one_callback_per_program"
            ),
        ),
        migrations.RemoveIndex("job", "job_of_parent"),
        migrations.AddIndex(
            "job",
            models.Index(condition=models.Q(parent__isnull=False), fields=["parent", "number"], name="job_of_parent"),
        ),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(parent__isnull=False, status__in=["PENDING", "QUEUED", "RUNNING", "WAITING"]),
                fields=["parent"],
                name="job_open_child_of_parent",
            ),
        ),
        migrations.AddIndex(
            "job",
            models.Index(condition=models.Q(status="WAITING"), fields=["number"], name="job_waits_for_children"),
        ),
        migrations.RunSQL(_one_guard.guard(_one_guard.CHANGES, SHAPE) + CHILD_GUARD),
    ]
