"""Answers to questions about jobs, queues and this installation: read only, with a bound however large the tables."""

__all__ = ["diagnosis", "explain", "facts", "presentation", "queries"]
