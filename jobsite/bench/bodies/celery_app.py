"""The benchmark's job as a Celery task. The environment says whether and how results are kept."""

import os

from celery import Celery

from jobsite.bench import ledger
from jobsite.bench.variables import RESULTS_VARIABLE, REUSE_VARIABLE

app = Celery("bench", broker=os.environ["JOBSITE_BROKER_URL"])
app.conf.task_default_queue = "bench"
app.conf.broker_connection_retry_on_startup = True
if os.environ.get(RESULTS_VARIABLE):
    app.conf.result_backend = os.environ[RESULTS_VARIABLE]
    app.conf.task_track_started = True
    app.conf.result_extended = True
else:
    app.conf.task_ignore_result = True
if os.environ.get(REUSE_VARIABLE):
    app.conf["CELERY_DB_REUSE_MAX"] = int(os.environ[REUSE_VARIABLE])


@app.task
def mark(number: int, seconds: float = 0.0) -> None:
    """Note that the task runs."""
    ledger.write(number, seconds)
