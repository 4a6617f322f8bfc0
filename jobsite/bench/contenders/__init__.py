"""Who is measured: jobsite and its peers, each with the settings that its documentation recommends."""

from jobsite.bench.contenders.base import Contender
from jobsite.bench.contenders.celery import BareCelery, CeleryResults
from jobsite.bench.contenders.django_tasks import DjangoTasks
from jobsite.bench.contenders.jobsite import Jobsite
from jobsite.bench.contenders.procrastinate import Procrastinate
from jobsite.bench.contenders.rq import Rq

THREADS = 8
PEERS_DATABASE = "peers"

GROWN = Jobsite("jobsite-grown", "jobsite, grown database", 5_000, database="grown", is_grown=True)
ALL: tuple[Contender, ...] = (
    Jobsite("jobsite", "jobsite, 2 processes", 5_000, database="jobsite"),
    GROWN,
    BareCelery("celery", "Celery, 2 processes", 900),
    Jobsite("jobsite-threads", "jobsite, 8 threads", 5_000, THREADS, database="jobsite", pool="threads"),
    BareCelery("celery-threads", "Celery, 8 threads", 900, THREADS, pool="threads"),
    CeleryResults("celery-results", "Celery + django-db", 180, database=PEERS_DATABASE),
    CeleryResults("celery-results-reuse", "the same, DB_REUSE_MAX", 350, database=PEERS_DATABASE, reuse=1000),
    Procrastinate("procrastinate", "Procrastinate", 800, database=PEERS_DATABASE),
    DjangoTasks("django-tasks", "django-tasks-db", 600, database=PEERS_DATABASE),
    Rq("rq", "RQ", 550),
)


def find(name: str) -> Contender:
    """The contender of this name; KeyError when there is none."""
    return {contender.name: contender for contender in ALL}[name]
