-- A finish asks first: is there anything to dispatch?
-- IS_WANTED of programs/transitions/dispatch.py

SELECT EXISTS (SELECT 1 FROM jobsite_lane WHERE queue_id = %(queue)s AND is_waiting)
       AND (%(enough)s = 0
            OR (SELECT count(*) FROM (SELECT 1 FROM jobsite_job WHERE queue_id = %(queue)s AND status = 'QUEUED'
                                      LIMIT %(enough)s) queued) < %(enough)s)
