"""What people do with notifications: groups, rules, templates, deliveries and their inbox; for every door."""

from jobsite.notifications.operations.deliveries import deliveries_of, find_delivery, send_again, test_rule
from jobsite.notifications.operations.groups import create_group, delete_group, find_group
from jobsite.notifications.operations.inbox import MAX_READ, inbox_of, mark_read, unread
from jobsite.notifications.operations.rules import (
    change_rule,
    create_rule,
    delete_rule,
    find_rule,
    rotate_secret,
    rule_as_data,
    rules_of,
    wanted_of,
)
from jobsite.notifications.operations.templates import (
    create_template,
    delete_template,
    find_template,
    preview,
    restore_words,
    save_words,
    templates_of,
)

__all__ = [
    "MAX_READ",
    "change_rule",
    "create_group",
    "create_rule",
    "create_template",
    "delete_group",
    "delete_rule",
    "delete_template",
    "deliveries_of",
    "find_delivery",
    "find_group",
    "find_rule",
    "find_template",
    "inbox_of",
    "mark_read",
    "preview",
    "restore_words",
    "rotate_secret",
    "rule_as_data",
    "rules_of",
    "save_words",
    "send_again",
    "templates_of",
    "test_rule",
    "unread",
    "wanted_of",
]
