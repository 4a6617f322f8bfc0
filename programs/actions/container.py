"""The kind `container`: an image run by Docker or Podman, through the socket that DOCKER_HOST names.

Its output becomes the job's log while it runs. At the time limit or a cancel it gets its stop signal, two seconds, and
is killed. It is labelled with its job and fence: whoever runs the job next removes what a lost worker left behind, and
so does every run of a container, and every worker once a minute, with those of jobs that run no more.
"""

import fcntl
import hashlib
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.actions.base import stop_wanted
from jobsite.programs.actions.output import Output
from jobsite.programs.actions.templates import render
from jobsite.programs.context import PermanentError, Step, TransientError, UnknownAction
from jobsite.programs.rules.stops import LockLost

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from jobsite.programs.context import Context

log = get_logger(__name__)

GRACE_SECONDS = 2
POLL_SECONDS = 0.2
ENGINE_SECONDS = 30
KILL_SECONDS = 5
LABEL = "jobsite"
_NO_IMAGE = re.compile(r"not found|unknown|denied|does not exist|no such image|invalid reference", re.IGNORECASE)
# The moment of the first migration, to the microsecond; and where it is now, for a copy is another installation.
WHOSE = """
SELECT t.created_at::text, d.datname::text, d.oid::text
FROM jobsite_tenant t, pg_database d WHERE t.code = 'system' AND d.datname = current_database()
"""
RUNNING = "SELECT number, fence FROM jobsite_job WHERE number = ANY(%s) AND status = %s"

Chunk = tuple[str, bytes] | BaseException | None
"""Some output of a stream, what broke the connection, or None at the end."""


class ContainerFailed(PermanentError):
    """The container ended with another status than 0."""

    says_all = True


class NoEngine(TransientError):
    """No container engine answers, or it could not do what was asked of it."""

    says_all = True


def run_container(context: "Context", step: Step) -> object:
    """Run the image to its end; its exit status is the result, and another than 0 is a permanent failure."""
    deadline = min(context.deadline, time.monotonic() + step.timeout)
    image = render(step.configuration["image"], context)
    with _engine() as client:
        _remove_leftovers(client, context)
        _provide(client, image, context, deadline)
        container = _create(client, image, context, step)
        identity = str(container.id)
        try:
            with _killed_with_us(context, identity):
                return _Run(context, container, image).to_the_end(deadline)
        finally:
            _remove(client, identity)


def _remove(client: "DockerClient", identity: str) -> None:
    from docker.errors import APIError, NotFound
    from requests.exceptions import RequestException

    try:
        client.api.remove_container(identity, force=True, v=True)
    except NotFound:
        pass
    except (APIError, RequestException) as error:  # the next run finds it
        log.warning("container_not_removed", container=identity[:12], error=str(error))


@contextmanager
def _engine(seconds: int = ENGINE_SECONDS) -> Iterator["DockerClient"]:
    try:
        import docker
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        raise UnknownAction("of kind container (the extra `containers` is not installed)") from error
    try:
        client = docker.from_env(timeout=seconds)
    except DockerException as error:
        raise NoEngine(f"no container engine answers at {_host()}: {error}") from error
    try:
        yield client
    except APIError as error:
        said = str(error.explanation or error)
        if error.is_client_error():
            raise PermanentError(f"the container engine refuses: {said:.500}") from error
        raise NoEngine(f"the container engine failed: {said:.500}") from error
    except (RequestException, HTTPError) as error:
        raise NoEngine(f"the container engine at {_host()} does not answer: {error}") from error
    finally:
        client.close()


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or "the default socket (DOCKER_HOST is not set)"


@cache
def installation() -> str:
    """Whose containers are ours where installations share an engine: a digest of what no two databases share."""
    with workers.connection().cursor() as cursor:
        cursor.execute(WHOSE)
        return hashlib.sha256(str(cursor.fetchone()).encode()).hexdigest()[:16]


def _labels(context: "Context") -> dict[str, str]:
    return {
        LABEL: installation(),
        f"{LABEL}.job": str(context.job_number),
        f"{LABEL}.fence": str(context.fence),
    }


def _remove_leftovers(client: "DockerClient", context: "Context") -> None:
    """Remove the containers of earlier runs of this job, and of any job of ours that does not run any more.

    Raises LockLost where a later run of this job has one already.
    """
    found = _ours(client)
    if any(number == context.job_number and fence > context.fence for number, fence in found):
        raise LockLost
    _remove_idle(client, found)


def remove_idle() -> int:
    """Remove the containers of ours on this machine's engine whose run has ended or was lost; how many.

    Does nothing where no program has a container. Raises NoEngine where none answers within seconds, PermanentError
    where it refuses, UnknownAction without the library.
    """
    with workers.connection().cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM jobsite_action WHERE kind = 'container')")
        if not cursor.fetchone()[0]:  # type: ignore[index]
            return 0
    with _engine(KILL_SECONDS) as client:
        return _remove_idle(client, _ours(client))


Found = dict[tuple[int, int], list[str]]
"""Containers by the number and fence of their run."""


def _ours(client: "DockerClient") -> Found:
    # Nothing of a container but its labels: a look at each might find it gone.
    found: Found = {}
    for one in client.api.containers(all=True, filters={"label": f"{LABEL}={installation()}"}):
        labels = one.get("Labels") or {}
        with suppress(KeyError, ValueError):
            key = int(labels[f"{LABEL}.job"]), int(labels[f"{LABEL}.fence"])
            found.setdefault(key, []).append(one["Id"])
    return found


def _remove_idle(client: "DockerClient", found: Found) -> int:
    # They were listed first, so that whoever has one by now was running when he made it.
    idle = [(run, identity) for run in found.keys() - _running({run[0] for run in found}) for identity in found[run]]
    for (number, fence), identity in idle:
        log.warning("container_left_behind", job=number, fence=fence, container=identity[:12])
        _remove(client, identity)
    return len(idle)


def _running(numbers: Collection[int]) -> set[tuple[int, int]]:
    with workers.connection().cursor() as cursor:
        cursor.execute(RUNNING, [list(numbers), "RUNNING"])
        return set(cursor.fetchall())


def _provide(client: "DockerClient", image: str, context: "Context", deadline: float) -> None:
    """See to it that the image is there; of all processes of this machine one pulls it."""
    from docker.errors import ImageNotFound

    def is_there() -> bool:
        try:
            client.images.get(image)
        except ImageNotFound:
            return False
        return True

    if is_there():
        return
    with _alone(f"pull {image}", context, deadline):
        if is_there():
            return
        context.log.info("pulling %s", image)
        said = _pulled(image, context, deadline)
        if not is_there():
            text = f"there is no image {image}" + (f": {said:.500}" if said else "")
            raise PermanentError(text) if not said or _NO_IMAGE.search(said) else NoEngine(text)


def _pulled(image: str, context: "Context", deadline: float) -> str:
    """Pull an image; what the engine says went wrong. In a thread: nothing bounds how long a registry is silent."""
    answers: queue.Queue[str | BaseException | None] = queue.Queue()

    def pull() -> None:
        said = ""
        try:
            with _engine() as client:
                for entry in client.api.pull(*_repository(image), stream=True, decode=True):
                    said = str(entry.get("error") or said)
        except BaseException as error:
            answers.put(error)
        else:
            answers.put(said)

    threading.Thread(target=pull, daemon=True, name="jobsite-pull").start()
    while True:
        try:
            answer = answers.get(timeout=POLL_SECONDS)
        except queue.Empty:
            answer = None
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            return answer
        if stop := stop_wanted(context, deadline):
            raise stop


def _repository(image: str) -> tuple[str, str | None]:
    """The repository, and its tag where the image names one; without one the engine would pull them all."""
    if "@" in image:
        return image, None
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")


@contextmanager
def _alone(what: str, context: "Context", deadline: float) -> Iterator[None]:
    """Keep the other processes of this machine out, and wait for one that is in."""
    name = f"jobsite-{os.getuid()}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock"
    with Path(tempfile.gettempdir(), name).open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop := stop_wanted(context, deadline):
                    raise stop from None
                time.sleep(POLL_SECONDS)
        yield


def _create(client: "DockerClient", image: str, context: "Context", step: Step) -> "Container":
    configuration = step.configuration
    memory = configuration.get("memory")
    cpus = configuration.get("cpus")
    return client.containers.create(
        image,
        [render(part, context) for part in configuration["command"]] if "command" in configuration else None,
        environment={name: render(value, context) for name, value in configuration.get("env", {}).items()},
        labels=_labels(context),
        network_mode=configuration.get("network", "none"),
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=round(cpus * 10**9) if cpus else None,
        security_opt=["no-new-privileges"],
    )


@contextmanager
def _killed_with_us(context: "Context", identity: str) -> Iterator[None]:
    """Have the watcher remove the container before it kills this process."""

    def kill() -> None:
        # From the watcher's thread: by a connection of its own. Nothing may keep it from ending this process.
        try:
            with _engine(KILL_SECONDS) as client:
                _remove(client, identity)
        except Exception as error:  # what it leaves is found by the next run
            log.warning("container_left_behind", container=identity[:12], error=str(error))

    context.stop_hooks.append(kill)
    try:
        yield
    finally:
        context.stop_hooks.remove(kill)


class _Run:
    """One container from its start to its end."""

    def __init__(self, context: "Context", container: "Container", image: str) -> None:
        self._context, self._container, self._image = context, container, image
        self._output = Output(context)
        self._chunks: queue.Queue[Chunk] = queue.Queue(maxsize=1_000)
        self._is_over = threading.Event()

    def to_the_end(self, deadline: float) -> object:
        """Its result; raises ContainerFailed, and JobTimeout, JobCanceled or LockLost after stopping it."""
        stream = self._container.attach(stdout=True, stderr=True, stream=True, logs=True, demux=True)
        self._container.start()
        threading.Thread(target=self._read, args=(stream,), daemon=True, name="jobsite-container").start()
        try:
            stop = self._follow(deadline)
            if stop is not None:
                self._stop()
                raise stop
            status = int(self._container.wait(timeout=ENGINE_SECONDS)["StatusCode"])
        finally:
            self._output.end()
            self._is_over.set()
        if status:
            raise ContainerFailed(self._described(status))
        return {"exit_code": status}

    def _read(self, stream: Iterator[tuple[bytes | None, bytes | None]]) -> None:
        try:
            for parts in stream:
                for name, part in zip(("stdout", "stderr"), parts, strict=True):
                    if part:
                        self._put((name, part))
        except Exception as error:
            self._put(error)
        else:
            self._put(None)

    def _put(self, chunk: Chunk) -> None:
        while not self._is_over.is_set():
            try:
                self._chunks.put(chunk, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _stop(self) -> None:
        """Stop it; where the engine cannot, it goes when it is removed."""
        try:
            self._container.stop(timeout=GRACE_SECONDS)
        except Exception as error:
            log.warning("container_not_stopped", job=self._context.job_number, error=str(error))
        self._drain(time.monotonic() + 1.0)

    def _follow(self, deadline: float) -> BaseException | None:
        """Log what it says until it ends, or has to; also where it can be heard no more."""
        is_heard = True
        while True:
            if is_heard:
                is_heard = not self._take(POLL_SECONDS)
            if not is_heard:
                self._container.reload()
                if self._container.status not in ("created", "running", "paused", "stopping"):
                    return None
                time.sleep(POLL_SECONDS)
            if stop := stop_wanted(self._context, deadline):
                return stop

    def _take(self, timeout: float) -> bool:
        """Log some output, if there is any within `timeout`; whether that was the end."""
        try:
            chunk = self._chunks.get(timeout=timeout)
        except queue.Empty:
            return False
        if isinstance(chunk, tuple):
            self._output.add(*chunk)
            return False
        if chunk is not None:
            self._context.log.warning("the output of the container is lost from here on: %s", chunk)
        return True

    def _drain(self, until: float) -> None:
        while time.monotonic() < until and not self._take(max(0.0, until - time.monotonic())):
            pass

    def _described(self, status: int) -> str:
        self._container.reload()
        used_up = ", its memory being used up" if self._container.attrs["State"].get("OOMKilled") else ""
        said = "".join(f"\n{line}" for line in self._output.tail)
        return f"{self._image} ended with status {status}{used_up}" + (f":{said}" if said else "")
