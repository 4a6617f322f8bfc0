"""Jobs are vacuumed after a hundredth of the table has changed, indexes too, however large the history is.

A job that moves on leaves an entry behind in each small index of what is ready, QUEUED or RUNNING, and whoever looks for
the first one walks past them all: with a million finished jobs, 1,423 submissions a second became 811 within 200,000
jobs. Left to itself the server waits for a fifth of the table, and then leaves the indexes alone where few pages of the
table have changed.
"""

from django.db import migrations

VACUUM = """
ALTER TABLE jobsite_job SET (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000, vacuum_index_cleanup = on)
"""
AS_USUAL = """
ALTER TABLE jobsite_job RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, vacuum_index_cleanup)
"""


class Migration(migrations.Migration):
    dependencies = [("jobsite_programs", "0009_referenced_for_good")]

    operations = [migrations.RunSQL(VACUUM, AS_USUAL)]
