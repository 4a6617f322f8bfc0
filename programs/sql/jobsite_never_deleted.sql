-- Queues and captured contexts are never deleted, and their keys never change.
--
-- So a job can refer to them without a foreign key. A submission reads both rows in the statement that inserts the
-- job; the check of two foreign keys, which locks both rows once more, took a sixth of a bulk submission.
-- `jobsite doctor --invariants` checks whether a job refers to a row that does not exist.

CREATE OR REPLACE FUNCTION jobsite_never_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never deleted, and keep their key', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

CREATE OR REPLACE TRIGGER queue_is_never_deleted
    BEFORE DELETE OR UPDATE OF id ON jobsite_queue
    FOR EACH ROW EXECUTE FUNCTION jobsite_never_deleted();

CREATE OR REPLACE TRIGGER context_is_never_deleted
    BEFORE DELETE OR UPDATE OF key ON jobsite_capturedcontext
    FOR EACH ROW EXECUTE FUNCTION jobsite_never_deleted();
