"""What operators do, whatever the door: each act is permitted, audited, and refused in one sentence."""

from jobsite.programs.operations import bulk, jobs, pausing, rotation

__all__ = ["bulk", "jobs", "pausing", "periodic_tasks", "rotation"]
