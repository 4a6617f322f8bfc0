"""Where Celery and the web server come in: the boot of a worker, its consumer, its tasks, beat, and the lookout."""

__all__ = ["beat", "boot", "consumer", "lookout", "tasks"]
