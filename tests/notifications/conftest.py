"""What the tests of notifications share: a real mail server."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.notifications.smtp_sink import Sink, sinking


@pytest.fixture
def mail(settings: Any) -> Iterator[Sink]:
    """A mail server that takes everything until it is told otherwise."""
    with sinking() as sink:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", sink.port
        settings.EMAIL_TIMEOUT = 5
        yield sink
