"""The application that holds the commands of `jobsite`."""

from django.apps import AppConfig


class CliConfig(AppConfig):
    """The command line."""

    name = "jobsite.cli"
    label = "jobsite_cli"
