"""Prepare what a jobsite process needs before it works: embedded servers, and their migrations."""

import hashlib
import warnings
from contextlib import suppress
from io import StringIO
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.utils import DEFAULT_DB_ALIAS, OperationalError

from jobsite import embedded
from jobsite.errors import Refusal
from jobsite.logs import get_logger

log = get_logger(__name__)

MIGRATION_LOCK = 0x6A6F6273

# The migrations were renumbered once. These two were among the first, and no longer exist.
EARLIER_MIGRATIONS = ("jobsite_programs.0002_guards", "jobsite_tenants.0002_languages")


class EarlierDatabase(Refusal, CommandError):
    """The database was made by an earlier development version, which had other migrations.

    It is a CommandError too, so that Django's `migrate` reports it in one line.
    """

    exit_status = 2

    def __init__(self, remedy: str) -> None:
        super().__init__(
            f"this database was made by an earlier development version of jobsite and cannot be migrated: {remedy}",
            code="earlier_database",
        )


def prepare() -> None:
    """Start or join the embedded servers that the configuration wants, and migrate the embedded database.

    Costs a few milliseconds when everything is ready.

    Raises:
        embedded.EmbeddedError: a server cannot be started.
        EarlierDatabase: the database was made by an earlier development version.
    """
    if settings.JOBSITE_EMBEDDED_DATABASE or settings.JOBSITE_EMBEDDED_BROKER:
        embedded.ensure(
            settings.JOBSITE_HOME,
            postgres=settings.JOBSITE_EMBEDDED_DATABASE,
            redis=settings.JOBSITE_EMBEDDED_BROKER,
        )
    if settings.JOBSITE_EMBEDDED_DATABASE:
        _migrate_once()
    else:
        with suppress(OperationalError):  # the command that needs the database reports it
            refuse_earlier()


def refuse_earlier(using: str = DEFAULT_DB_ALIAS, **_: object) -> None:
    """Raise EarlierDatabase where the migrations of an earlier development version were applied; changes nothing.

    It receives pre_migrate too, so that nothing migrates such a database.
    """
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return
        cursor.execute(
            "SELECT EXISTS (SELECT FROM django_migrations WHERE app || '.' || name = ANY(%s))",
            [list(EARLIER_MIGRATIONS)],
        )
        if not cursor.fetchone()[0]:
            return
    if settings.JOBSITE_EMBEDDED_DATABASE:
        raise EarlierDatabase(f"run jobsite down, remove {settings.JOBSITE_HOME}, and start again")
    raise EarlierDatabase("create an empty one, set DATABASE_URL to it, and run jobsite migrate")


def _migrate_once() -> None:
    # Django needs a third of a second to find out that there is nothing to migrate. The names of all migrations,
    # kept beside the database, show it at once.
    marker: Path = settings.JOBSITE_HOME / "migrated"
    wanted = _fingerprint()
    if marker.exists() and marker.read_text() == wanted:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        try:
            refuse_earlier()
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
