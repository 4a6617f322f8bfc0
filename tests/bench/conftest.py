"""What a job costs is counted on the database of the stories."""

from tests.flows.conftest import db, installation, submit

__all__ = ["db", "installation", "submit"]
