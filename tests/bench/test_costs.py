"""The counting proxy in front of a real server."""

import psycopg
import pytest
from django.conf import settings

from jobsite import embedded
from jobsite.bench.costs import Counter, Proxy


@pytest.mark.parametrize("size", [1, 3, 5, 6, 100])
def test_blocks_may_end_anywhere(size: int) -> None:
    idle, inside = b"Z\x00\x00\x00\x05I", b"Z\x00\x00\x00\x05T"
    row = b"D\x00\x00\x00\x0aZZZZZZ"  # data with the bytes of the message that is counted
    stream, counter = row + idle + row + inside + row + idle, Counter()

    for first in range(0, len(stream), size):
        counter.read(stream[first : first + size])

    assert (counter.round_trips, counter.commits) == (3, 2)


def test_a_pipeline_is_one_round_trip_and_one_commit(servers: embedded.Servers) -> None:
    assert settings.DATABASES["default"]["NAME"]
    with Proxy(servers.postgres_socket) as proxy:
        url = f"host={proxy.folder} user=jobsite dbname=postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            before = proxy.round_trips, proxy.commits
            connection.execute("SELECT 1")
            single = proxy.round_trips, proxy.commits
            with connection.pipeline():
                for _ in range(50):
                    connection.execute("SELECT 1")
            pipelined = proxy.round_trips, proxy.commits
            with connection.transaction():
                connection.execute("SELECT 1")
            transaction = proxy.round_trips, proxy.commits

    assert (single[0] - before[0], single[1] - before[1]) == (1, 1)
    assert (pipelined[0] - single[0], pipelined[1] - single[1]) == (1, 1)
    assert (transaction[0] - pipelined[0], transaction[1] - pipelined[1]) == (3, 1)
