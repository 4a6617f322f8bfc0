"""jobsite up: everything on this machine, in the foreground."""

import secrets
import signal
import socket
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from jobsite import brokers, embedded
from jobsite.cli import fleet, printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.supervisor import Service, Supervisor, jobsite
from jobsite.errors import Invalid

FLOWER_OFFSET = 1


class Command(BaseCommand):
    """Entry point."""

    help = "Start web, beat, workers and Flower on this machine; Ctrl-C stops all and waits for running jobs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--no-flower", action="store_true", help="without Flower")
        parser.add_argument(
            "--port", type=int, default=8000, metavar="N", help="port of the web process; Flower has the next one"
        )
        parser.add_argument(
            "--worker-per-queue", action="store_true", help="start a worker for each queue instead of each broker"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Start everything, print the URLs, keep it running."""
        port = options["port"]
        with_flower = not options["no_flower"]
        for number in (port, port + FLOWER_OFFSET) if with_flower else (port,):
            _check_port(number)
        services = _services(port, with_flower=with_flower, each_queue=options["worker_per_queue"])
        supervisor = Supervisor(services)
        out = printing.console()
        with _holding_the_servers():
            with _stopping_by_signal() as is_stopping:
                began = time.monotonic()
                supervisor.start()
                is_announced = False
                while not is_stopping():
                    supervisor.attend()
                    if not is_announced and _is_ready(port):
                        is_announced = True
                        _announce(port, with_flower=with_flower, seconds=time.monotonic() - began)
            out.print("\n[bold]stopping[/], waiting for running jobs …")
            supervisor.stop()
        out.print(
            "stopped; the embedded servers go on until: jobsite down"
            if settings.JOBSITE_EMBEDDED_DATABASE
            else "stopped"
        )


def _services(port: int, *, with_flower: bool, each_queue: bool) -> list[Service]:
    web = [
        sys.executable,
        "-m",
        "uvicorn",
        "jobsite.asgi:application",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    services = [
        Service("web", [*web, "--no-access-log"]),
        Service("beat", jobsite("beat")),
        *fleet.workers(each_queue=each_queue),
    ]
    if with_flower:
        for offset, names in enumerate(brokers.queues_by_url().values(), start=FLOWER_OFFSET):
            services.append(
                Service(
                    f"flower-{names[0]}" if offset > FLOWER_OFFSET else "flower",
                    jobsite("flower", names[0], "--port", str(port + offset)),
                )
            )
    return services


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise Invalid(f"port {port} cannot be used ({error}); choose another with --port N") from error


def _is_ready(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return set(settings.JOBSITE_QUEUES) <= fleet.served_queues()


def _announce(port: int, *, with_flower: bool, seconds: float) -> None:
    out = printing.console()
    out.print(f"\n[bold green]jobsite is up[/] after {seconds:.1f} s")
    out.print(f"  admin    http://localhost:{port}/admin/")
    if with_flower:
        for offset, (url, names) in enumerate(brokers.queues_by_url().items(), start=FLOWER_OFFSET):
            out.print(
                f"  flower   http://localhost:{port + offset}/   [dim]{', '.join(names)} on {brokers.masked(url)}[/]"
            )
    out.print(f"  log in   {_login()}")
    out.print("  submit   jobsite submit PROGRAM --wait   [dim](jobsite demo shows some)[/]\n")


def _login() -> str:
    """How to log in. On an embedded installation without a superuser, one is made."""
    users = get_user_model().objects
    password_file = Path(settings.JOBSITE_HOME) / "admin-password"
    if not users.filter(is_superuser=True).exists():
        if not settings.JOBSITE_EMBEDDED_DATABASE:
            return "make a superuser with: jobsite createsuperuser"
        password = secrets.token_urlsafe(12)
        password_file.touch(mode=0o600)
        password_file.write_text(password + "\n")
        users.create_superuser("admin", "admin@localhost", password)
    if password_file.exists():
        return f"admin, password {password_file.read_text().strip()} (in {password_file})"
    return "as your superuser"


def _holding_the_servers() -> AbstractContextManager[None]:
    """Make `jobsite down` refuse inside the block: the processes here would start the servers again."""
    is_embedded = settings.JOBSITE_EMBEDDED_DATABASE or settings.JOBSITE_EMBEDDED_BROKER
    return embedded.in_use(settings.JOBSITE_HOME) if is_embedded else nullcontext()


@contextmanager
def _stopping_by_signal() -> Iterator[Any]:
    """Inside the block, SIGINT and SIGTERM only make the yielded function return True."""
    stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
