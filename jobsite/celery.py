"""The Celery application and its configuration, nothing else; `celery -A jobsite` finds it.

What happens when a worker boots (choice of the broker, registration, renewal) is in programs/worker/, which
`include` loads. Which broker a queue has is in jobsite/brokers.py.
"""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")

app = Celery(
    "jobsite",
    include=[
        "jobsite.notifications.tasks",
        "jobsite.programs.worker.tasks",
        "jobsite.programs.worker.boot",
        "jobsite.programs.worker.consumer",
    ],
)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Users' own tasks may use the ORM: keep its connection over a thousand tasks instead of reconnecting for each.
app.conf["CELERY_DB_REUSE_MAX"] = 1000


@setup_logging.connect(weak=False)
def keep_our_logging(**_: object) -> None:
    """Do nothing: Celery configures logging only while nobody listens here, so Django's LOGGING stays in force."""
