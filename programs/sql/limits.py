"""How many jobs run now, as limits count them: of a tenant `t` for its quota, and of a worker manager `m`."""

RUNNING_OF_TENANT = "(SELECT count(*) FROM jobsite_job r WHERE r.tenant_id = t.id AND r.status = 'RUNNING')"
RUNNING_OF_MANAGER = """(SELECT count(*) FROM jobsite_job r JOIN jobsite_worker o ON o.incarnation = r.lock_owner
                    WHERE r.status = 'RUNNING' AND o.manager_id = m.id)"""
