"""A runner for each kind of action."""

from jobsite.programs.actions.base import Runner
from jobsite.programs.actions.command import run_command
from jobsite.programs.actions.container import run_container
from jobsite.programs.actions.http import run_heartbeat, run_http
from jobsite.programs.actions.python import run_python
from jobsite.programs.actions.webhook import run_webhook

RUNNERS: dict[str, Runner] = {
    "python": run_python,
    "command": run_command,
    "container": run_container,
    "http": run_http,
    "heartbeat": run_heartbeat,
    "webhook": run_webhook,
}

__all__ = ["RUNNERS", "Runner", "container", "python", "templates"]
