"""Replace a command of jobsite with a command of Celery."""

import os
import sys


def exec_celery(*argv: str, environment: dict[str, str] | None = None) -> None:
    """Replace this process with `celery -A jobsite …`."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "celery", "-A", "jobsite", *argv]
    os.execve(sys.executable, command, dict(os.environ) | (environment or {}))  # noqa: S606 - argv without a shell
