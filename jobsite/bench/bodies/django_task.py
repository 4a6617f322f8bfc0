"""The benchmark's job as a Django task."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from jobsite.bench import ledger

# From version 6 on, Django has tasks itself.
_tasks: Any = import_module("django.tasks" if find_spec("django.tasks") else "django_tasks")


@_tasks.task()
def mark(number: int) -> None:
    """Note that the task runs."""
    ledger.write(number)
