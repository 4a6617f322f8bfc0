"""Make ready what a jobsite process needs before it works: embedded servers, and their migrations."""

import hashlib
import warnings
from io import StringIO
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from jobsite import embedded
from jobsite.logs import get_logger

log = get_logger(__name__)

MIGRATION_LOCK = 0x6A6F6273


def prepare() -> None:
    """Start or join the embedded servers that the configuration wants, and migrate the embedded database.

    Costs a few milliseconds when all is there. Raises embedded.EmbeddedError when a server cannot be had.
    """
    if settings.JOBSITE_EMBEDDED_DATABASE or settings.JOBSITE_EMBEDDED_BROKER:
        embedded.ensure(
            settings.JOBSITE_HOME,
            postgres=settings.JOBSITE_EMBEDDED_DATABASE,
            redis=settings.JOBSITE_EMBEDDED_BROKER,
        )
    if settings.JOBSITE_EMBEDDED_DATABASE:
        _migrate_once()


def _migrate_once() -> None:
    # Django needs a third of a second to find out that nothing is to be migrated; the names of all
    # migrations, kept beside the database, say the same at once.
    marker: Path = settings.JOBSITE_HOME / "migrated"
    wanted = _fingerprint()
    if marker.exists() and marker.read_text() == wanted:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                call_command("migrate", verbosity=0, interactive=False, stdout=StringIO())
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
    marker.write_text(wanted)
    log.info("migrated", home=str(settings.JOBSITE_HOME))


def _fingerprint() -> str:
    names = sorted(
        f"{config.label}/{path.name}/{settings.JOBSITE_QUEUES}"
        for config in apps.get_app_configs()
        for path in Path(config.path).glob("migrations/[0-9]*.py")
    )
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
