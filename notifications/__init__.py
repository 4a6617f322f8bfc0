"""The package jobsite.notifications; `jobsite/notifications` is a link to this folder."""

if __name__ == "notifications":  # a second copy of its modules and models
    raise ImportError("notifications is no package of its own: import jobsite.notifications")
