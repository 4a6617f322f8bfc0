"""Run the jobs of a message: claim them, run their actions under watch, write how they ended."""

from jobsite.programs.execution.running import run

__all__ = ["run"]
