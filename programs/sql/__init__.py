"""SQL that several statements share."""

__all__ = ["budget", "deliveries", "failures"]
