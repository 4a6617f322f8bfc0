"""A container engine for the tests: Podman with one image, which is made from busybox."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import docker
from docker.errors import DockerException

from tests.flows.processes import until

IMAGE = "localhost/jobsite-busybox:1"
COMMANDS = ("sh", "sleep", "echo", "cat", "seq", "env", "true", "wget", "dd")
# Limits that also a machine with low limits of its own can grant to a container.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


def missing() -> str:
    """The reason why no engine can run here; "" where one can."""
    absent = [name for name in ("podman", "runc", "busybox") if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install podman runc busybox-static"
    return "" if os.getuid() == 0 else "Podman is set up for root here"


@contextmanager
def running() -> Iterator[str]:
    """Run an engine with the image while the block runs. Yields its DOCKER_HOST."""
    # In /tmp, because the path of a socket has at most about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="jobsite-engine-", dir="/tmp"))
    (folder / "containers.conf").write_text(LIMITS)
    host = f"unix://{folder}/socket"
    # The driver vfs mounts nothing, so that the folder can be removed.
    options = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    options += ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["podman", *options, "system", "service", "--time=0", host],
            env=os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _answers(host), "the container engine answers", seconds=30)
        _load_image(host)
        yield host
    finally:
        try:
            _remove_all(host)
        finally:
            process.terminate()
            process.wait(10)
        # Processes that end containers may still write there.
        until(lambda: _is_removed(folder), f"{folder} is removed", seconds=20)


def _is_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextmanager
def client(host: str) -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    made = docker.DockerClient(base_url=host, timeout=30)
    try:
        yield made
    finally:
        made.close()


def _answers(host: str) -> bool:
    try:
        with client(host) as engine:
            return bool(engine.ping())
    except DockerException:
        return False


def _load_image(host: str) -> None:
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for folder in ("tmp", "bin"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(str(shutil.which("busybox")), "bin/busybox")
        for command in COMMANDS:
            link = tarfile.TarInfo(f"bin/{command}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    repository, _, tag = IMAGE.rpartition(":")
    with client(host) as engine:
        engine.api.import_image_from_data(data.getvalue(), repository=repository)
        engine.images.get(f"{repository}:latest").tag(repository, tag)


def _remove_all(host: str) -> None:
    with client(host) as engine:
        for container in engine.containers.list(all=True):
            container.remove(force=True, v=True)
