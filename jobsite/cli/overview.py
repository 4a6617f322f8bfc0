"""What `jobsite` prints without a command or with --help."""

from rich.table import Table

from jobsite.cli.printing import console

COMMANDS = {
    "Run": {
        "up": "everything on this machine: web, beat, workers, Flower",
        "demo": "run real jobs to their end and watch them",
        "down": "stop the embedded servers",
        "worker": "a Celery worker for some queues",
        "beat": "the scheduler and the sweeps",
        "flower": "Celery's monitor for a queue's broker",
    },
    "Jobs": {
        "submit": "submit a job, and wait for it with --wait",
        "jobs": "list, show, logs, cancel, hold, release, retry, acknowledge, expire",
        "locks": "list, clear",
        "queues": "list, pause, resume",
        "workers": "list",
    },
    "Set up": {
        "programs": "load, list, show, pause, resume, terminate, reactivate",
        "notifications": "groups, rules, templates, deliveries, inbox",
        "schedules": "create, list, show, change, pause, resume, run, backfill, preview",
        "tenants": "create, list, suspend, resume",
        "members": "add, list",
        "secrets": "rotate: encrypt secret parameters with the newest key",
        "sweep": "look for what was lost, once or until stopped",
        "doctor": "what is wrong with this installation, and how to fix it",
        "bench": "how fast jobsite is here, compared with peers and limits",
    },
}


def show() -> None:
    """Print the commands in three groups. Django's commands work too."""
    out = console()
    out.print("[bold]jobsite[/] COMMAND …    [dim]each command has --help[/]\n")
    for title, commands in COMMANDS.items():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), title=title, title_justify="left")
        table.add_column(style="cyan", min_width=10)
        table.add_column()
        for name, what in commands.items():
            table.add_row(name, what)
        out.print(table)
        out.print()
    out.print("[dim]Django's commands (migrate, shell, createsuperuser, …) work too.[/]")
