"""SQL that several statements share."""

__all__ = ["attempts", "blocked", "budget", "deliveries", "failures", "lanes", "limits", "locks", "window"]
