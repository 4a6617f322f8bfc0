"""The data: every table of programs and jobs."""

from programs.models.attempt import JobAttempt
from programs.models.audit import AuditEntry
from programs.models.bulk import BulkAct
from programs.models.job import CapturedContext, Job
from programs.models.log import JobLogEntry
from programs.models.program import Action, Program
from programs.models.queue import Lane, Queue
from programs.models.schedule import Firing, Schedule
from programs.models.step import JobStep
from programs.models.sweep import Sweep
from programs.models.usage import TenantUsage
from programs.models.worker import Worker, WorkerManager

__all__ = [
    "Action",
    "AuditEntry",
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
