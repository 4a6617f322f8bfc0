"""Who is notified of what, when, in which words. `jobsite/notifications` is a link to this folder."""

if __name__ == "notifications":  # a second copy of its modules and models
    raise ImportError("notifications is no package of its own: import jobsite.notifications")

__all__ = [
    "channels",
    "defaults",
    "events",
    "hints",
    "models",
    "operations",
    "outbox",
    "rendering",
    "rules",
    "setup",
    "subjects",
    "wordings",
]
