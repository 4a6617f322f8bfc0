-- Write the deliveries for one thing that has happened: who is notified, by which channel. Returns the new rows' ids.
--
-- Statements call it in the transaction in which the thing happens, with named arguments (notifications/outbox.py).
-- They call it only where somebody may be notified: a statement that contained all of this would take longer to begin
-- than a whole job takes to end.
--
-- Each recipient of a rule gets one delivery. A recipient is a member of the tenant, an address or a URL. Whether a
-- member is still one is asked again before the delivery is sent. What was written for the same key before is not
-- written again.

CREATE OR REPLACE FUNCTION jobsite_write_deliveries(
    tenant bigint,
    to_group bigint,     -- the notification group whose rules are asked
    event text,          -- what has happened
    names text[],        -- what rules may call it: COMPLETED is COMPLETED+WARNING too
    recovery text,       -- the event for the rules that ask for a recovery too; NULL: this is none
    recovered text[],    -- what those rules are for
    key text,            -- identifies the one thing that happened
    source text,         -- what a throttle counts together: 'program 7', 'schedule 3'
    job bigint,
    program bigint,
    schedule bigint,
    context uuid,        -- the captured context that names the submitter, or
    submitter bigint,    -- the submitter themselves
    notify boolean,      -- the submitter asked to be notified
    alerts boolean,      -- the operator of the installation is notified
    in_a_row integer,    -- how many times in a row it has happened
    details jsonb,
    only_rule bigint,    -- the one rule that is asked; NULL: all
    hinted boolean       -- the caller sends a hint to the workers after its commit; else a sweep finds the row
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
#variable_conflict use_variable
-- A name without a table in front of it is a parameter.
BEGIN
    IF context IS NOT NULL THEN
        submitter := (SELECT (c.content ->> 'user_id')::bigint FROM jobsite_capturedcontext c WHERE c.key = context);
    END IF;
    -- A submitter whose account is deleted is not notified.
    submitter := (SELECT u.id FROM auth_user u WHERE u.id = submitter);

    RETURN QUERY
    WITH rule AS (
        -- The rules for the event itself.
        SELECT r.*, event AS says
        FROM jobsite_rule r
        WHERE r.group_id = to_group AND r.deleted_at IS NULL AND r.is_active
              AND r.event = ANY(names) AND r.in_a_row <= in_a_row
        UNION ALL
        -- The rules that reported the trouble and ask for one report of its end. The ORDER BY names all columns of the
        -- index delivery_of_rule; else the planner would read the table by its key.
        SELECT r.*, recovery
        FROM jobsite_rule r
        WHERE r.group_id = to_group AND r.deleted_at IS NULL AND r.is_active
              AND r.on_recovery AND r.event = ANY(recovered)
              AND (SELECT d.event FROM jobsite_delivery d WHERE d.rule_id = r.id AND d.source = source
                   ORDER BY d.rule_id DESC, d.source DESC, d.id DESC LIMIT 1) <> recovery
    ), recipient AS (
        SELECT r.id AS rule_id, r.says, r.channel, too.user_id, too.address
        FROM rule r CROSS JOIN LATERAL (
            SELECT submitter AS user_id, '' AS address WHERE r.to_submitter AND submitter IS NOT NULL
            UNION
            SELECT m.user_id, '' FROM jobsite_membership m WHERE m.tenant_id = r.tenant_id AND m.role = ANY(r.to_roles)
            UNION
            SELECT m.user_id, ''
            FROM jobsite_rule_to_users u
            JOIN jobsite_membership m ON m.tenant_id = r.tenant_id AND m.user_id = u.user_id
            WHERE u.rule_id = r.id
            UNION
            SELECT NULL, one FROM unnest(r.to_addresses) AS one
            UNION
            SELECT NULL, r.to_url WHERE r.to_url <> ''
        ) too
        WHERE only_rule IS NULL OR r.id = only_rule
        UNION ALL
        -- Without a rule: the submitter who asked for it, by mail where they have an address.
        SELECT NULL, event, CASE WHEN u.email <> '' THEN 'email' ELSE 'inbox' END, u.id, ''
        FROM auth_user u
        WHERE notify AND u.id = submitter
        UNION ALL
        -- Without a rule: the operator of the installation.
        SELECT NULL, event, 'email', NULL, 'SYSTEM_JOBS_ALERT_EMAIL'
        WHERE alerts
    )
    INSERT INTO jobsite_delivery AS d (
        tenant_id, rule_id, dedupe_key, event, source, job_number, program_id, schedule_id, details, channel, user_id,
        address, hinted_at
    )
    SELECT tenant,
           too.rule_id,
           concat_ws(':', key, 'rule ' || too.rule_id, 'user ' || too.user_id, nullif(too.address, '')),
           too.says,
           source,
           job,
           program,
           schedule,
           details || jsonb_build_object('in_a_row', in_a_row),
           too.channel,
           too.user_id,
           too.address,
           CASE WHEN hinted THEN clock_timestamp() END
    FROM recipient too
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING d.id;
END $$;
