"""The kind `container`: an image run by Docker or Podman, through the socket that DOCKER_HOST names.

Its output becomes the job's log while it runs. At the time limit or a cancel it gets its stop signal, and is killed two
seconds later. It is labelled with its job and fence, so that what a lost worker left behind can be found. The next run
of the job removes it. Every run of a container, and every worker once a minute, removes those of all ended runs.
"""

from jobsite.programs.actions.container.engine import NoEngine
from jobsite.programs.actions.container.leftovers import installation, remove_idle
from jobsite.programs.actions.container.run import ContainerFailed, run_container

__all__ = ["ContainerFailed", "NoEngine", "installation", "remove_idle", "run_container"]
