-- Make the partition of jobsite_joblogentry for the month (in UTC) that holds `moment`. It may exist already.
--
-- The system program partition_creation calls it for this month and the months ahead. Lines of a month without a
-- partition go to jobsite_joblogentry_default.

CREATE OR REPLACE FUNCTION jobsite_create_log_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first_day timestamp := date_trunc('month', moment AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF jobsite_joblogentry FOR VALUES FROM (%L) TO (%L)',
        'jobsite_joblogentry_' || to_char(first_day, 'YYYY_MM'),
        first_day AT TIME ZONE 'UTC',
        (first_day + interval '1 month') AT TIME ZONE 'UTC'
    );
END $$;
