"""One container from its creation to its end: its output, its time limit, its exit status."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobsite.logs import get_logger
from jobsite.programs.actions.base import stop_wanted
from jobsite.programs.actions.container.engine import ENGINE_SECONDS, KILL_SECONDS, POLL_SECONDS, engine, remove
from jobsite.programs.actions.container.images import provide
from jobsite.programs.actions.container.leftovers import labels, remove_leftovers
from jobsite.programs.actions.output import Output
from jobsite.programs.actions.templates import render
from jobsite.programs.context import PermanentError, Step

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from jobsite.programs.context import Context

log = get_logger(__name__)

GRACE_SECONDS = 2
Chunk = tuple[str, bytes] | BaseException | None
"""Some output of a stream, what broke the connection, or None at the end."""


class ContainerFailed(PermanentError):
    """The container ended with a status other than 0."""

    says_all = True


def run_container(context: "Context", step: Step) -> object:
    """Run the image to its end; its exit status is the result, and any other than 0 is a permanent failure."""
    deadline = min(context.deadline, time.monotonic() + step.timeout)
    image = render(step.configuration["image"], context)
    with engine() as client:
        remove_leftovers(client, context)
        provide(client, image, context, deadline)
        container = _create(client, image, context, step)
        identity = str(container.id)
        try:
            with _killed_with_us(context, identity):
                return _Run(context, container, image).to_the_end(deadline)
        finally:
            remove(client, identity)


def _create(client: "DockerClient", image: str, context: "Context", step: Step) -> "Container":
    configuration = step.configuration
    memory = configuration.get("memory")
    cpus = configuration.get("cpus")
    return client.containers.create(
        image,
        [render(part, context) for part in configuration["command"]] if "command" in configuration else None,
        environment={name: render(value, context) for name, value in configuration.get("env", {}).items()},
        labels=labels(context),
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
        # Called in the watcher's thread, so with a connection of its own. Nothing may keep it from ending this process.
        try:
            with engine(KILL_SECONDS) as client:
                remove(client, identity)
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
        """Stop it; where the engine cannot, it ends when it is removed."""
        try:
            self._container.stop(timeout=GRACE_SECONDS)
        except Exception as error:
            log.warning("container_not_stopped", job=self._context.job_number, error=str(error))
        self._drain(time.monotonic() + 1.0)

    def _follow(self, deadline: float) -> BaseException | None:
        """Log its output until it ends or must stop; watch it further where the output is lost."""
        has_output = True
        while True:
            if has_output:
                has_output = not self._take(POLL_SECONDS)
            if not has_output:
                self._container.reload()
                if self._container.status not in ("created", "running", "paused", "stopping"):
                    return None
                time.sleep(POLL_SECONDS)
            if stop := stop_wanted(self._context, deadline):
                return stop

    def _take(self, timeout: float) -> bool:
        """Log some output, if there is any within `timeout`; True at the end of the output."""
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
        used_up = ", out of memory" if self._container.attrs["State"].get("OOMKilled") else ""
        said = "".join(f"\n{line}" for line in self._output.tail)
        return f"{self._image} ended with status {status}{used_up}" + (f":{said}" if said else "")
