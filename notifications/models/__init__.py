"""Who is told, by which rules, in which words, and what became of it."""

from notifications.models.delivery import Delivery
from notifications.models.group import Group, Rule
from notifications.models.template import Template, Translation

__all__ = ["Delivery", "Group", "Rule", "Template", "Translation"]
