"""Which job keeps a new one out: an open retry, or one with the same idempotency key or REJECT key."""

from jobsite.errors import Conflict
from jobsite.programs.models import Job
from jobsite.programs.rules.lifecycle import OPEN, Overlap
from jobsite.programs.transitions.submit import NewJob

TRIES = 10  # each time the other job may have ended before we can name it


def earlier_job(new: NewJob, request: list[str]) -> Job | None:
    """The earlier job of the same request, if any; raises Conflict where another job holds a unique key."""
    if new.retry_of is not None:
        retry = Job.objects.filter(retry_of=new.retry_of, status__in=sorted(OPEN)).first()
        if retry is not None:
            raise Conflict(
                f"job {new.retry_of} is being retried by job {retry.number} already, which is {retry.status}",
                code="retry_open",
                existing_job=retry.number,
            )
    if new.idempotency_key is not None:
        earlier = Job.objects.filter(tenant_id=new.tenant_id, idempotency_key=new.idempotency_key).first()
        if earlier is not None:
            if earlier.fingerprint in request:
                return earlier
            raise Conflict(
                f"idempotency key {new.idempotency_key!r} was used for job {earlier.number} with another request",
                code="idempotency_key_reused",
                existing_job=earlier.number,
            )
    refuse_duplicate(new)
    return None


def refuse_duplicate(new: NewJob) -> None:
    """Raise Conflict (duplicate_job) with the number of the open job that holds this one's REJECT key, if any."""
    if new.overlap_policy is Overlap.REJECT:
        holder = Job.objects.filter(
            program_id=new.program_id,
            overlap_policy=Overlap.REJECT,
            overlap_key=new.overlap_key,
            status__in=sorted(OPEN),
        ).first()
        if holder is not None:
            raise Conflict(
                f"duplicate of job {holder.number}, which is {holder.status}",
                code="duplicate_job",
                existing_job=holder.number,
            )
