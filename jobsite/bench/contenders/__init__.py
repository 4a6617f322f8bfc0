"""Who is measured: jobsite and its peers, each with the settings that its documentation recommends."""

from jobsite.bench.contenders.base import Contender
from jobsite.bench.contenders.celery import BareCelery
from jobsite.bench.contenders.jobsite import Jobsite

THREADS = 8

ALL: tuple[Contender, ...] = (
    Jobsite("jobsite", "jobsite, 2 processes", 5_000, database="jobsite"),
    BareCelery("celery", "bare Celery, 2 processes", 900),
    Jobsite("jobsite-threads", "jobsite, 8 threads", 5_000, THREADS, database="jobsite", pool="threads"),
    BareCelery("celery-threads", "bare Celery, 8 threads", 900, THREADS, pool="threads"),
)


def find(name: str) -> Contender:
    """The contender of this name; KeyError when there is none."""
    return {contender.name: contender for contender in ALL}[name]
