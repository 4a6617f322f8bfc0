"""The data: every table of programs and jobs."""

from jobsite.programs.models.attempt import JobAttempt
from jobsite.programs.models.bulk_act import BulkAct
from jobsite.programs.models.job import CapturedContext, Job
from jobsite.programs.models.log import JobLogEntry
from jobsite.programs.models.program import Action, Program
from jobsite.programs.models.queue import Lane, Queue
from jobsite.programs.models.schedule import (
    CRON_FIELDS,
    MAX_CAP,
    MAX_INTERVAL_MINUTES,
    MAX_JITTER_MINUTES,
    Firing,
    Schedule,
)
from jobsite.programs.models.step import JobStep
from jobsite.programs.models.sweep import Sweep
from jobsite.programs.models.usage import TenantUsage
from jobsite.programs.models.worker import DEFAULT_MANAGER, Worker, WorkerManager

__all__ = [
    "CRON_FIELDS",
    "DEFAULT_MANAGER",
    "MAX_CAP",
    "MAX_INTERVAL_MINUTES",
    "MAX_JITTER_MINUTES",
    "Action",
    "BulkAct",
    "CapturedContext",
    "Firing",
    "Job",
    "JobAttempt",
    "JobLogEntry",
    "JobStep",
    "Lane",
    "Program",
    "Queue",
    "Schedule",
    "Sweep",
    "TenantUsage",
    "Worker",
    "WorkerManager",
]
