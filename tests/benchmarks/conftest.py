"""The benchmarks run on the workers of the stories."""

from tests.flows.conftest import db, installation, start_worker, submit

__all__ = ["db", "installation", "start_worker", "submit"]
