-- The audit is append-only: an entry is never changed or deleted, whoever asks.

CREATE OR REPLACE FUNCTION jobsite_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed or deleted'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_is_append_only', TABLE = 'jobsite_auditentry';
END $$;

CREATE OR REPLACE TRIGGER audit_guard
    BEFORE UPDATE OR DELETE ON jobsite_auditentry
    FOR EACH ROW EXECUTE FUNCTION jobsite_audit_guard();
