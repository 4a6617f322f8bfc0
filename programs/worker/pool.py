"""What Celery knows of a worker's pool: its name, its children, and whether it is being stopped."""

from typing import Any

from celery.worker import state


def name(controller: Any) -> str:
    """The name of the pool as -P takes it."""
    module = controller.pool_cls if isinstance(controller.pool_cls, str) else controller.pool_cls.__module__
    return str(module).rpartition(".")[2].strip("_").split(":")[0]


def children(controller: Any) -> int:
    """How many messages the pool works on at once."""
    pool = getattr(controller, "pool", None)
    count = getattr(pool, "num_processes", None) if pool is not None else None
    return 1 if name(controller) == "solo" else int(count or controller.concurrency)


def is_terminating() -> bool:
    """Whether a cold stop has begun to cancel what runs."""
    return state.should_terminate not in (None, False)
