"""jobsite itself, used as its users do: `submit` and `celery -A jobsite worker`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jobsite.bench.contenders.base import ALONE, CHATTY, SHORT, SLEEP_SECONDS, SLEEPING, Client, Contender
from jobsite.bench.contenders.celery import worker
from jobsite.bench.processes import Launch, until

QUEUE = "default"
TENANT = "bench"
CHUNK = 10_000
SETTINGS = {"DJANGO_SETTINGS_MODULE": "jobsite.settings"}
SHORT_SECONDS = 0.004  # PROTOCOL "Groups": a program whose runs take no longer is short
KNOWN_RUNS = 20
LOG_SECONDS = 60.0

CLEAR_ALL = "TRUNCATE jobsite_joblogentry, jobsite_jobstep, jobsite_jobattempt, jobsite_job"
# In one transaction. A trigger refuses to delete open jobs; it is switched off because these are the benchmark's own.
CLEAR_SINCE = """
ALTER TABLE jobsite_job DISABLE TRIGGER USER;
DELETE FROM jobsite_job WHERE number > {since};
ALTER TABLE jobsite_job ENABLE TRIGGER USER;
"""


@dataclass(frozen=True)
class Jobsite(Contender):
    """jobsite with one worker."""

    pool: str = "prefork"
    is_grown: bool = False

    kinds: ClassVar[tuple[str, ...]] = (SHORT, ALONE, SLEEPING)
    has_bulk: ClassVar[bool] = True

    def workers(self) -> list[Launch]:
        """One worker."""
        return [Launch(worker("jobsite", self.pool, self.children, "-Q", QUEUE), SETTINGS)]

    def connect(self) -> Client:
        """Migrate the database and load the programs."""
        return JobsiteClient(is_grown=self.is_grown)


class JobsiteClient(Client):
    """Submissions in autocommit: each is durable when it returns."""

    def __init__(self, *, is_grown: bool) -> None:
        import django

        django.setup()
        from django.core.management import call_command
        from django.db.models import Max

        from jobsite import logs
        from jobsite.programs import submission
        from jobsite.programs.models import Job, Worker

        logs.quiet()
        call_command("migrate", verbosity=0, interactive=False)
        self._tenant = _tenant()
        _load_programs(self._tenant)
        self._submit, self._submit_many = submission.submit, submission.submit_many
        self._since = (Job.objects.aggregate(last=Max("number"))["last"] or 0) if is_grown else 0
        Worker.objects.all().delete()  # rows of an earlier turn would count for the window

    def submit(self, mark: int, kind: str) -> None:
        """See Client."""
        self._submit(tenant=self._tenant, program=kind, parameters=_parameters(mark, kind))

    def submit_many(self, marks: Sequence[int], kind: str) -> None:
        """Submit ten thousand per call. A call submits all of them or none."""
        for first in range(0, len(marks), CHUNK):
            chunk = marks[first : first + CHUNK]
            jobs = [{"program": kind, "parameters": _parameters(mark, kind)} for mark in chunk]
            self._submit_many(tenant=self._tenant, jobs=jobs)

    def chatter(self, count: int) -> int:
        """See Client."""
        from jobsite.programs.models import Job, JobLogEntry

        job = self._submit(tenant=self._tenant, program=CHATTY, parameters={"number": count})
        until(lambda: Job.objects.get(pk=job.pk).is_terminal, f"job {job.number} has ended", seconds=LOG_SECONDS)
        return JobLogEntry.objects.filter(job_number=job.number).count()

    def clear(self) -> None:
        """Remove what was submitted here, and keep what the database was filled with before."""
        from django.db import connection

        with connection.cursor() as cursor:
            if not self._since:
                cursor.execute(CLEAR_ALL)
                return
            cursor.execute(CLEAR_SINCE.format(since=self._since))
            # Leave no dead rows behind: the other branch, which truncates, leaves none either.
            cursor.execute("VACUUM jobsite_job, jobsite_jobattempt")

    def finished(self) -> int | None:
        """The number of completed jobs that have a successful attempt."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT count(*) FROM jobsite_job j
                JOIN jobsite_jobattempt a ON a.job_id = j.number AND a.result = 'SUCCESS'
                WHERE j.number > %s AND a.job_id > %s AND j.status = 'COMPLETED'
                """,
                [self._since, self._since],
            )
            return int(cursor.fetchone()[0])

    def is_warm(self) -> bool:
        """Whether jobsite has measured that the short programs are short."""
        from jobsite.programs.models import Program

        known = Program.objects.filter(
            tenant=self._tenant, measured_runs__gte=KNOWN_RUNS, mean_seconds__lte=SHORT_SECONDS
        )
        return {SHORT, ALONE} <= set(known.values_list("code", flat=True))


def _tenant() -> Any:
    from jobsite.tenants import setup
    from jobsite.tenants.models import Tenant

    return Tenant.objects.filter(code=TENANT).first() or setup.create(TENANT)


def _load_programs(tenant: Any) -> None:
    from django.conf import settings

    from jobsite.programs.definitions import from_mapping, registration
    from jobsite.tenants import principals

    schema = {
        "type": "object",
        "required": ["number"],
        "additionalProperties": False,
        "properties": {"number": {"type": "integer"}, "seconds": {"type": "number"}},
    }
    mark = {"kind": "python", "target": "jobsite.bench.bodies.jobsite_actions:mark"}
    chatter = {"kind": "command", "argv": ["seq", "1", "{{ parameters.number }}"]}
    registration.load(
        principals.local(tenant, login="bench"),
        [
            from_mapping(
                {"code": kind, "queue": QUEUE, "group": kind != ALONE, "parameters": schema, "action": [action]},
                where="bench",
                queues=settings.JOBSITE_QUEUES,
            )
            for kind, action in [*((kind, mark) for kind in Jobsite.kinds), (CHATTY, chatter)]
        ],
    )


def _parameters(mark: int, kind: str) -> dict[str, object]:
    return {"number": mark, "seconds": SLEEP_SECONDS} if kind == SLEEPING else {"number": mark}
