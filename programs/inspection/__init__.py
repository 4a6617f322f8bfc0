"""What people ask of jobs, queues and this installation: read only, and bounded whatever the size of the tables."""

__all__ = ["diagnosis", "explain", "facts", "presentation", "queries"]
