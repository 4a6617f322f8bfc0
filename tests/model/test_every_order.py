"""One job, two workers, messages that may come again at any time: every order of a few moves, not a sample of them."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.model.driver import Driver
from tests.model.rows import Job
from tests.model.world import World


def moves(driver: Driver) -> Iterator[Any]:
    """What may happen now. Moves that are refused are not left out: that they are refused is tested."""
    [job] = driver.model.jobs.values()
    number, tenant = job.number, job.program.tenant
    yield partial(driver.offer, number)
    for message in driver.bag[:1] + driver.bag[1:][-1:]:  # the first may come very late
        for worker in driver.model.workers:
            yield partial(driver.claim, worker, message)
    for grant in driver.grants:
        for how in ("succeeds", "tries again"):
            yield partial(driver.finish, grant, how)
    for grant in driver.grants[:1]:
        yield partial(driver.clear, grant, force=True)
        yield partial(driver.renew, grant.worker, [grant.message])
        yield partial(driver.reap_child, grant.worker, grant.message, timed_out=False)
        yield partial(driver.give_back, grant.worker)
    yield partial(driver.cancel, number, tenant)
    yield partial(driver.hold, number, tenant, until=None)
    yield partial(driver.release, number, tenant)
    yield partial(driver.time_passes, 1)
    yield partial(driver.requeue, job.program.queue)
    yield partial(lock_runs_out, driver)


def lock_runs_out(driver: Driver) -> None:
    driver.time_passes(5)
    driver.reap_expired()


def seen_from_outside(driver: Driver) -> object:
    """A state, equal for two histories after which the same may follow: tokens by holder, times in half ticks."""
    [job] = driver.model.jobs.values()
    holders = [(grant.worker.name, grant.message.int, grant.token == job.token) for grant in driver.grants]
    plain = replace(job, token=None, due=0.0, expires=None, stuck=None, queued=None, history=[])
    times = [
        round((moment or 0.0) * 2 - driver.model.now * 2) for moment in (job.due, job.expires, job.stuck, job.queued)
    ]
    return repr((vars(plain), holders, times, [result for *_, result in job.history], len(driver.bag)))


class Explorer:
    """Goes on from every state in which it has not been with as many moves left."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: dict[object, int] = {}
        self.moves_made = 0

    def explore(self, driver: Driver, left: int) -> None:
        state = seen_from_outside(driver)
        if left == 0 or self.seen.get(state, 0) >= left:
            return
        self.seen[state] = left
        self.world.cursor.execute(f"SAVEPOINT left_{left}")
        for place in range(sum(1 for _ in moves(driver))):
            own = self._copy(driver)
            list(moves(own))[place]()
            self.moves_made += 1
            self.explore(own, left - 1)
            self.world.back_to(f"left_{left}")

    def _copy(self, driver: Driver) -> Driver:
        """The same driver with a memory of its own, on the same tables."""
        shared = {id(one): one for one in (driver.world, driver.cursor)}
        return copy.deepcopy(driver, shared)


@pytest.mark.parametrize("depth", [4, pytest.param(6, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
def test_every_order_of_a_few_moves_of_one_job(world, depth):
    driver = Driver(world)
    for name in ("w1", "w2"):
        driver.register(name, manager="default", queues=("default",), children=1)
    [number] = driver.submit([Job(0, driver.model.programs[0], 0.0)])
    driver.offer(number)
    explorer = Explorer(world)

    explorer.explore(driver, depth)

    assert explorer.moves_made > 500
