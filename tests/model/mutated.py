"""A pytest plugin that runs ordinary tests on a mutated protocol, in a database of their own."""

import os
from contextlib import ExitStack

import pytest
from django.db import connections

from tests.model.mutation import applied
from tests.model.mutations import MUTATIONS

VARIABLE = "JOBSITE_MUTATION"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Apply the mutation before anything is collected, since the tests import what is mutated."""
    connections["default"].settings_dict["TEST"]["NAME"] = "test_mutated"
    mutation = ExitStack()
    mutation.enter_context(applied(MUTATIONS[os.environ[VARIABLE]]))
    session.config.add_cleanup(mutation.close)
