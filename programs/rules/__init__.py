"""The rules of a job's life as plain data and decisions: no database, no clock, no other package of programs."""

__all__ = ["cron", "failures", "lifecycle", "recurrence", "retries", "stops"]
