"""The application of notifications."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Who is notified of what, when, in which words."""

    name = "jobsite.notifications"
    label = "jobsite_notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"
