"""The benchmark's job as a Procrastinate task."""

import os

from procrastinate import App, PsycopgConnector

from jobsite.bench import ledger

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task(name="mark")
async def mark(number: int) -> None:
    """Note that the task runs."""
    ledger.write(number)
