"""Fixtures shared by the tests of notifications: a real mail server, and jobs."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobsite.database import Cursor
from jobsite.programs.models import Program
from tests.notifications.smtp_sink import Sink, sinking
from tests.programs.conftest import Jobs


@pytest.fixture
def mail(settings: Any) -> Iterator[Sink]:
    """A mail server that accepts everything until a test sets other answers."""
    with sinking() as sink:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", sink.port
        settings.EMAIL_TIMEOUT = 5
        yield sink


@pytest.fixture
def jobs(cursor: Cursor, define: Callable[..., Program]) -> Jobs:
    """Jobs in every status."""
    return Jobs(cursor, define)
