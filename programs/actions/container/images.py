"""The image of a container: pulled where the machine has none, by one process at a time."""

import fcntl
import hashlib
import os
import queue
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobsite.programs.actions.base import stop_wanted
from jobsite.programs.actions.container.engine import POLL_SECONDS, NoEngine, engine
from jobsite.programs.context import PermanentError

if TYPE_CHECKING:
    from docker import DockerClient

    from jobsite.programs.context import Context


_NO_IMAGE = re.compile(r"not found|unknown|denied|does not exist|no such image|invalid reference", re.IGNORECASE)


def provide(client: "DockerClient", image: str, context: "Context", deadline: float) -> None:
    """Make sure that the image is there; only one process of this machine pulls it."""
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
    """Pull an image; returns the engine's error, or "". In a thread: nothing limits how long a registry is silent."""
    answers: queue.Queue[str | BaseException | None] = queue.Queue()

    def pull() -> None:
        said = ""
        try:
            with engine() as client:
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
    """The repository and the tag, `latest` where the image names none: without one the engine would pull all tags."""
    if "@" in image:
        return image, None
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")


@contextmanager
def _alone(what: str, context: "Context", deadline: float) -> Iterator[None]:
    """Let one process of this machine in at a time; the others wait."""
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
