"""SQL that has no other place: parts that several statements share, and the database's own rules.

The Python modules hold the parts of statements. Each .sql file holds the current text of one function of the database,
with its triggers; the file bears the function's name. Nothing executes these files: a migration carries a frozen copy,
and a test compares the migrated database with them. To change a function, change its file and add a migration with a
copy of the new text. The functions of the other applications are in notifications/sql/ and jobsite/tenants/sql/.

`python -m tests.sql` writes the legal moves of a job into jobsite_job_guard.sql, from programs/rules/lifecycle.py.
"""

__all__ = ["attempts", "blocked", "budget", "deliveries", "failures", "lanes", "limits", "locks", "window"]
