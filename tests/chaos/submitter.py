"""A submitter, a process of its own. It records what it submitted and what was accepted, as a client sees it.

    python -m tests.chaos.submitter '{"count": 100, "rate": 40, …}'

Every submission has an idempotency key. After an error it is unsure whether the job exists, so the same submission is
repeated until there is an answer. Every 25th is withdrawn: its transaction is rolled back.
"""

import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import django
from django.db import Error, connection, transaction

WITHDRAWN_EVERY = 25


@dataclass(frozen=True)
class Kind:
    """One kind of job in the mix: its share, program and parameters."""

    share: float
    program: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a submitter is to do. `rate` is in jobs a second; 0 means as fast as possible."""

    prefix: str
    count: int
    rate: float
    tenant: str
    seed: str
    history: str
    kinds: list[Kind]

    @classmethod
    def read(cls, text: str) -> "Order":
        values = json.loads(text)
        return cls(**values | {"kinds": [Kind(**kind) for kind in values["kinds"]]})


class _Withdrawn(Exception):
    pass


class Submitter:
    """Submits the jobs of an order."""

    def __init__(self, order: Order, history: IO[str]) -> None:
        from jobsite.tenants.models import Tenant

        self._order, self._history = order, history
        self._random = random.Random(order.seed)
        self._tenant = Tenant.objects.get(code=order.tenant)

    def run(self) -> None:
        """Make every submission at its time, and repeat it until it has an answer."""
        began = time.monotonic()
        shares = [kind.share for kind in self._order.kinds]
        for place in range(self._order.count):
            kind = self._random.choices(self._order.kinds, shares)[0]
            if self._order.rate:
                time.sleep(max(0.0, began + place / self._order.rate - time.monotonic()))
            self._submit(f"{self._order.prefix}-{place:06}", kind, place)

    def _submit(self, key: str, kind: Kind, place: int) -> None:
        withdraw = place % WITHDRAWN_EVERY == WITHDRAWN_EVERY - 1
        self._note(key, "withdrawn" if withdraw else "asked")
        for tries in range(1, 1_000):
            began = time.monotonic()
            try:
                number = self._ask(key, kind, in_transaction=withdraw or place % 3 == 0, withdraw=withdraw)
            except _Withdrawn:
                return
            except Error as error:
                self._note(key, "unsure", error=str(error).strip(), seconds=time.monotonic() - began)
                connection.close()
                time.sleep(0.2)
            else:
                self._note(key, "accepted", number=number, tries=tries, seconds=time.monotonic() - began)
                return

    def _ask(self, key: str, kind: Kind, *, in_transaction: bool, withdraw: bool) -> int:
        from jobsite.programs.submission import submit

        def ask() -> int:
            job = submit(tenant=self._tenant, program=kind.program, parameters=kind.parameters, idempotency_key=key)
            return int(job.number)

        if not in_transaction:
            return ask()
        with transaction.atomic():
            number = ask()
            if withdraw:
                raise _Withdrawn
            return number

    def _note(self, key: str, what: str, **values: object) -> None:
        self._history.write(json.dumps({"key": key, "what": what, "at": time.time(), **values}) + "\n")
        self._history.flush()


def main() -> None:
    """Entry point."""
    django.setup()
    order = Order.read(sys.argv[1])
    with Path(order.history).open("a") as history:
        Submitter(order, history).run()
    os._exit(0)  # without waiting for kombu's connections


if __name__ == "__main__":
    main()
