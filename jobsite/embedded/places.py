"""Where the embedded servers of a home keep their data and sockets, and who must own them."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

LOCK_SECONDS = 180.0
LONGEST_SOCKET = 100  # bytes; sockaddr_un has room for 104 (BSD, macOS) or 108 (Linux)


class EmbeddedError(Exception):
    """The embedded servers cannot be used. The message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Servers:
    """The addresses of a home's servers, whether they run or not."""

    home: Path
    socket_directory: Path
    database_url: str
    broker_url: str

    @property
    def postgres_socket(self) -> Path:
        return self.socket_directory / ".s.PGSQL.5432"

    @property
    def redis_socket(self) -> Path:
        return self.socket_directory / "redis.sock"

    def has_sockets(self) -> bool:
        """Whether the directory of the sockets exists.

        Raises:
            EmbeddedError: it is no directory, or belongs to another user.
        """
        try:
            found = self.socket_directory.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedError(
                f"{self.socket_directory} should be a directory of the user {user_name(os.geteuid())}, but it is "
                f"something else or belongs to {user_name(found.st_uid)}: remove it."
            )
        return True


def servers(home: Path) -> Servers:
    """Return the addresses for `home`, without checking whether anything is there.

    The sockets are in a folder in the system's temporary directory, because their path may have only about 100
    bytes. Where /tmp can be used, the folder is the same for every process, whatever its TMPDIR.
    """
    home = home.resolve()
    shared = Path("/tmp")  # noqa: S108 - the directory in it is ours, or refused
    temporary = shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    directory = temporary / f"jobsite-{os.geteuid()}-{digest}"
    return Servers(
        home=home,
        socket_directory=directory,
        database_url=f"postgresql://jobsite@/jobsite?host={quote(str(directory), safe='')}",
        broker_url=f"redis+socket://{quote(str(directory))}/redis.sock?virtual_host=0",
    )


def prepare_home(home: Path) -> None:
    """Make `home` if it is missing: open to its owner only, and ignored by Git.

    Raises:
        EmbeddedError: it belongs to another user.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_owner(home)
    if not any(home.iterdir()):
        (home / ".gitignore").write_text("*\n")


def check_owner(home: Path) -> None:
    """Raise EmbeddedError when `home` belongs to another user than this process."""
    owner, user = home.stat().st_uid, os.geteuid()
    if owner != user:
        raise EmbeddedError(
            f"{home} belongs to the user {user_name(owner)}, and this process runs as {user_name(user)}: "
            f"run it as {user_name(owner)}, or set JOBSITE_HOME to another folder."
        )


def prepare_sockets(places: Servers) -> None:
    """Make the directory of the sockets if it is missing, open to its owner only.

    Raises:
        EmbeddedError: it belongs to another user, or its path is too long for a socket.
    """
    if len(os.fsencode(places.postgres_socket)) > LONGEST_SOCKET:
        raise EmbeddedError(f"{places.socket_directory} is too long a path for sockets: set TMPDIR to a shorter one.")
    if not places.has_sockets():
        places.socket_directory.mkdir(mode=0o700)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock of `home`. Servers are started and stopped, and keys are made, only under this lock.

    Raises:
        EmbeddedError: another process has held it for longer than any start should take.
    """
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not wait_until(lambda: try_lock(descriptor), LOCK_SECONDS):
            raise EmbeddedError(
                f"another jobsite process has held {home / 'lock'} for {LOCK_SECONDS:.0f} seconds: "
                "check what it does, or kill it."
            )
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has it open too
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Mark `home` as used by a process that starts its servers again when they are gone, until the block ends."""
    descriptor = _used(home)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_in_use(home: Path) -> bool:
    """Whether a live process has marked `home` with `in_use`."""
    if not home.exists():
        return False
    descriptor = _used(home)
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def _used(home: Path) -> int:
    return os.open(home / "in-use", os.O_RDWR | os.O_CREAT, 0o600)


def try_lock(descriptor: int) -> bool:
    """Take the file's lock, unless another process holds it. Returns whether it was taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for `condition`, at most `seconds`. Returns whether it became true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def translated_errors(home: Path) -> Iterator[None]:
    """Turn errors of the operating system into EmbeddedError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"the embedded servers cannot use {home}: {error}. Fix that, or set JOBSITE_HOME to another folder."
        ) from error


def user_name(uid: int) -> str:
    """Return the user's name, or the number where there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
