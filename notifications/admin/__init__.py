"""The admin's pages of notifications; importing this registers them."""

from jobsite.notifications.admin import delivery, group, rule, template

__all__ = ["delivery", "group", "rule", "template"]
