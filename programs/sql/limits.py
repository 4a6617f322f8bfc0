"""What runs now, as the limits on running jobs count it: of a tenant `t` by its quota, of a worker manager `m`."""

RUNNING_OF_TENANT = "(SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')"
RUNNING_OF_MANAGER = """(SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                    WHERE r.status = 'RUNNING' AND o.manager_id = m.id)"""
