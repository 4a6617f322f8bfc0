"""One run asked for: the job, and the principal captured with it.

Only programs/transitions/ inserts and deletes these rows and changes their status. Of an open job a worker writes its
progress and its step (execution/watcher.py, context/steps.py), and the rotation of keys changes ciphertext
(operations/rotation.py).
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from jobsite.programs.models.program import Program
from jobsite.programs.models.queue import Queue
from jobsite.programs.rules.lifecycle import ACTIVE, HOLD, NEVER_HELD, OPEN, TERMINAL, Outcome, Phase, Status, Trigger
from jobsite.tenants.models import Tenant

_terminal = Q(status__in=sorted(TERMINAL))
_open = sorted(OPEN)


class CapturedContext(models.Model):
    """Who a job runs as, captured at submission; equal contexts share one row.

    The key is the first 128 bits of the SHA-256 over the content's canonical JSON.
    """

    key = models.UUIDField(primary_key=True)
    content = models.JSONField()

    class Meta:
        db_table = "jobsite_capturedcontext"

    def __str__(self) -> str:
        return str(self.content.get("submitted_by", self.key))


class Job(models.Model):
    """A job; its number is its key. Terminal rows are final: the database refuses to change them."""

    MAY_BE_HELD: ClassVar = Q(status__in=HOLD.sources, hold_at__isnull=True) & ~Q(trigger=NEVER_HELD)
    """Which rows `may_be_held` is true of."""

    number = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="jobs", db_constraint=False, db_index=False)
    program = models.ForeignKey(Program, models.PROTECT, related_name="jobs", db_constraint=False, db_index=False)
    queue = models.ForeignKey(Queue, models.PROTECT, related_name="jobs", db_constraint=False, db_index=False)
    status = models.CharField(max_length=9, choices=[(s, s) for s in Status], db_default=Status.PENDING)
    outcome = models.CharField(max_length=7, choices=[(o, o) for o in Outcome], db_default=Outcome.NORMAL)
    trigger = models.CharField(max_length=9, choices=[(t, t) for t in Trigger], db_default=Trigger.MANUAL)
    priority = models.SmallIntegerField(db_default=0)
    parameters = models.JSONField()
    has_secrets = models.BooleanField(db_default=False)
    notify = models.BooleanField(db_default=False)
    context = models.ForeignKey(CapturedContext, models.PROTECT, related_name="+", db_constraint=False, db_index=False)

    # When: scheduled_at never changes, due_at is moved by back-off and snooze, rank orders the lane.
    scheduled_at = models.DateTimeField()
    due_at = models.DateTimeField()
    rank = models.DateTimeField()
    blocked = models.CharField(max_length=9, null=True)  # noqa: DJ001 - NULL is what the partial index asks for
    hold_at = models.DateTimeField(null=True)
    hold_by = models.CharField(max_length=150, db_default="")
    hold_reason = models.TextField(db_default="")
    hold_until = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=150, db_default="")
    cancel_reason = models.TextField(db_default="")

    # The lock: who may change the row now.
    attempts = models.IntegerField(db_default=0)
    losses = models.IntegerField(db_default=0)
    returns = models.IntegerField(db_default=0)
    fence = models.BigIntegerField(db_default=0)
    lock_token = models.UUIDField(null=True)
    lock_owner = models.UUIDField(null=True)
    lock_expires_at = models.DateTimeField(null=True)
    stuck_at = models.DateTimeField(null=True)
    external_id = models.UUIDField(null=True)
    engine = models.CharField(max_length=10, db_default="redis")
    alone = models.BooleanField(db_default=False)

    created_at = models.DateTimeField(db_default=Now())
    queued_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    # Family, uniqueness.
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="children", db_constraint=False, db_index=False
    )
    child_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - NULL means: not a child
    # The parent's fence when it spawned this job; this job's own fence when it parked for its callback.
    parent_fence = models.BigIntegerField(null=True)
    parked_fence = models.BigIntegerField(null=True)
    retry_of = models.ForeignKey(
        "self", models.PROTECT, null=True, related_name="retries", db_constraint=False, db_index=False
    )
    overlap_policy = models.CharField(max_length=6, db_default="ALLOW")
    overlap_key = models.TextField(null=True)  # noqa: DJ001 - NULL means: nothing to guard
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - NULL means: none given
    fingerprint = models.CharField(max_length=64, db_default="")

    # Its progress and its result.
    progress = models.JSONField(null=True)
    current_step = models.CharField(max_length=100, db_default="")
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)
    failure_kind = models.CharField(max_length=11, null=True)  # noqa: DJ001 - NULL unless FAILED
    needs_review = models.BooleanField(db_default=False)
    reviewed_at = models.DateTimeField(null=True)
    reviewed_by = models.CharField(max_length=150, db_default="")

    class Meta:
        db_table = "jobsite_job"
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "number"], name="job_tenant_and_number"),
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="job_idempotency_key_once_per_tenant",
            ),
            models.UniqueConstraint(
                fields=["parent", "child_key"],
                condition=Q(parent__isnull=False),
                name="job_child_key_once_per_parent",
            ),
            models.UniqueConstraint(
                fields=["program", "overlap_key"],
                condition=Q(overlap_policy="REJECT", status__in=_open),
                name="job_reject_key_once_among_open",
            ),
            models.UniqueConstraint(
                fields=["program", "overlap_key"],
                condition=Q(overlap_policy="QUEUE")
                & (Q(status__in=sorted(ACTIVE)) | Q(status="PENDING", attempts__gt=0)),
                name="job_queue_key_once_among_active",
            ),
            models.UniqueConstraint(
                fields=["retry_of"],
                condition=Q(retry_of__isnull=False, status__in=_open),
                name="job_retried_once_at_a_time",
            ),
            # What a row may look like, and how it may change: programs/sql/jobsite_job_guard.sql.
        ]
        indexes: ClassVar = [
            # The lane: dispatch finds ready jobs by this index alone.
            models.Index(
                fields=["queue", "tenant", "rank", "number"],
                condition=Q(status="PENDING", blocked__isnull=True),
                name="job_ready_in_lane",
            ),
            models.Index(fields=["due_at"], condition=Q(status="PENDING", blocked="SCHEDULED"), name="job_due_later"),
            models.Index(
                fields=["hold_until"],
                condition=Q(status="PENDING", blocked="HELD", hold_until__isnull=False),
                name="job_hold_ends",
            ),
            models.Index(
                fields=["program", "number"],
                condition=Q(status="PENDING", blocked__in=["PAUSED", "OVERLAP"]),
                name="job_waits_for_its_program",
            ),
            models.Index(
                fields=["program", "overlap_key", "scheduled_at", "number"],
                condition=Q(status="PENDING", overlap_policy="QUEUE"),
                name="job_waits_for_its_key",
            ),
            models.Index(fields=["queue", "queued_at"], condition=Q(status="QUEUED"), name="job_queued"),
            # Not on lock_expires_at, which a renewal changes: without an index on it, that is a heap-only update.
            models.Index(fields=["lock_owner"], condition=Q(status="RUNNING"), name="job_running_by_owner"),
            models.Index(fields=["tenant"], condition=Q(status="RUNNING"), name="job_running_by_tenant"),
            models.Index(fields=["tenant", "number"], condition=Q(status__in=_open), name="job_open"),
            models.Index(fields=["tenant", "number"], condition=Q(status="FAILED"), name="job_failed"),
            models.Index(fields=["program", "number"], name="job_of_program"),
            models.Index(fields=["parent", "number"], condition=Q(parent__isnull=False), name="job_of_parent"),
            models.Index(
                fields=["parent"], condition=Q(parent__isnull=False, status__in=_open), name="job_open_child_of_parent"
            ),
            models.Index(fields=["number"], condition=Q(status="WAITING"), name="job_waits_for_children"),
            models.Index(fields=["retry_of"], condition=Q(retry_of__isnull=False), name="job_retries_another"),
            models.Index(fields=["number"], condition=Q(has_secrets=True), name="job_with_secrets"),
        ]

    def __str__(self) -> str:
        return f"#{self.number}"

    @property
    def phase(self) -> Phase:
        """The derived phase of SPEC 4."""
        return Status(self.status).phase

    @property
    def may_be_held(self) -> bool:
        """Whether an operator may hold it, as transitions/hold.py asks in the statement."""
        return self.status in HOLD.sources and self.hold_at is None and self.trigger != NEVER_HELD

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status in TERMINAL
