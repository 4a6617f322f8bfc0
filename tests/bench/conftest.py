"""The costs of a job are counted on the database of the flows."""

from tests.flows.conftest import db, installation, submit

__all__ = ["db", "installation", "submit"]
