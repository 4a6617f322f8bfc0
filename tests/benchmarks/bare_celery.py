"""A Celery application without jobsite: what a message costs when nothing is recorded."""

import os

from celery import Celery

app = Celery("bare", broker=os.environ.get("BARE_BROKER_URL"))
app.conf.task_ignore_result = True
app.conf.task_default_queue = "bare"
app.conf.broker_transport_options = {"global_keyprefix": "bare:"}


@app.task(ignore_result=True)
def noop() -> None:
    """Do nothing."""
