"""The admin's pages of jobs, programs, schedules, queues, workers and tenants; importing this registers them."""

from jobsite.programs.admin import acts_on_all, job, lane, program, queue, schedule, tenant, worker

__all__ = ["acts_on_all", "job", "lane", "program", "queue", "schedule", "tenant", "worker"]
