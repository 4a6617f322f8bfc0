"""The container engine that DOCKER_HOST names: a connection to it, and its failures as our own errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobsite.logs import get_logger
from jobsite.programs.context import PermanentError, TransientError, UnknownAction

if TYPE_CHECKING:
    from docker import DockerClient

log = get_logger(__name__)

ENGINE_SECONDS = 30
KILL_SECONDS = 5
POLL_SECONDS = 0.2


class NoEngine(TransientError):
    """No container engine answers, or it could not do what was asked of it."""

    says_all = True


@contextmanager
def engine(seconds: int = ENGINE_SECONDS) -> Iterator["DockerClient"]:
    """A client of the engine, each of whose answers may take so many seconds.

    Raises NoEngine where none answers or it fails, PermanentError where it refuses, UnknownAction without the library.
    """
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


def remove(client: "DockerClient", identity: str) -> None:
    """Remove a container, even a running one; the next run finds one that the engine cannot remove now."""
    from docker.errors import APIError, NotFound
    from requests.exceptions import RequestException

    try:
        client.api.remove_container(identity, force=True, v=True)
    except NotFound:
        pass
    except (APIError, RequestException) as error:  # the next run finds it
        log.warning("container_not_removed", container=identity[:12], error=str(error))
