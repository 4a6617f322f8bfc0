"""Who is notified, by which rules, in which words, and what became of it."""

from jobsite.notifications.models.delivery import Delivery
from jobsite.notifications.models.group import Group, Rule
from jobsite.notifications.models.template import Template, Translation

__all__ = ["Delivery", "Group", "Rule", "Template", "Translation"]
