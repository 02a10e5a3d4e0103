-- Writes into the ledger what the ACLs hold now, in the transaction that has changed them. Only rows that differ.
-- Goes between rules.sql and compare.sql: the last look at what was done says what there is to record.
, gone AS (
    DELETE FROM lakebase_operator.held h
    USING open_row l
    WHERE h.connection = %(connection)s
      AND (h.class, h.objid, h.part, h.privilege, h.grantor) = (l.class, l.oid, l.part, l.privilege, l.grantor)
      AND h.grantees <@ l.grantees  -- with a focus, others of the row may stay
      AND NOT EXISTS (SELECT FROM record r
                      WHERE (r.class, r.oid, r.part, r.privilege, r.grantor) = (l.class, l.oid, l.part, l.privilege, l.grantor)
                        AND r.grantees <> '{}')
    RETURNING 1
), shrunk AS (
    UPDATE lakebase_operator.held h
    SET grantees = ARRAY(SELECT unnest(h.grantees) EXCEPT SELECT unnest(l.grantees) ORDER BY 1)
    FROM open_row l
    WHERE h.connection = %(connection)s
      AND (h.class, h.objid, h.part, h.privilege, h.grantor) = (l.class, l.oid, l.part, l.privilege, l.grantor)
      AND NOT h.grantees <@ l.grantees
      AND NOT EXISTS (SELECT FROM record r
                      WHERE (r.class, r.oid, r.part, r.privilege, r.grantor) = (l.class, l.oid, l.part, l.privilege, l.grantor)
                        AND r.grantees <> '{}')
    RETURNING 1
), written AS (
    INSERT INTO lakebase_operator.held AS h (connection, class, objid, part, privilege, grantor, grantees)
    SELECT %(connection)s, r.class, r.oid, r.part, r.privilege, r.grantor, r.grantees
    FROM record r LEFT JOIN open_row l USING (class, oid, part, privilege, grantor)
    WHERE r.grantees <> '{}' AND r.grantees IS DISTINCT FROM l.grantees
    ON CONFLICT (connection, class, objid, part, privilege, grantor) DO UPDATE
    SET grantees = CASE WHEN %(focus)s::oid[] IS NULL THEN EXCLUDED.grantees
                        ELSE ARRAY((SELECT unnest(h.grantees) EXCEPT SELECT unnest(%(focus)s::oid[]))
                                   UNION SELECT unnest(EXCLUDED.grantees) ORDER BY 1) END
    RETURNING 1
), snapshot AS (
    INSERT INTO lakebase_operator.snapshots (connection, snapshot, class, objects)
    SELECT %(connection)s, j.snapshot, j.class,
           COALESCE(array_agg(m.oid ORDER BY m.oid) FILTER (WHERE m.oid IS NOT NULL), '{}')
    FROM jsonb_to_recordset(%(rules)s::jsonb) AS j(id int, class text, snapshot text)
    LEFT JOIN matched m ON m.rule = j.id
    WHERE j.snapshot IS NOT NULL
    GROUP BY j.snapshot, j.class
    ON CONFLICT DO NOTHING
    RETURNING 1
), elsewhere_no_more AS (
    -- The database is a copy: what the ledger says of databases is about the original.
    DELETE FROM lakebase_operator.held h USING lakebase_operator.version v, own_database o
    WHERE v.database <> o.oid AND h.class IN ('DATABASE', 'PARAMETER', 'TABLESPACE') AND h.objid <> o.oid
    RETURNING 1
), moved AS (
    UPDATE lakebase_operator.version SET database = o.oid FROM own_database o WHERE database <> o.oid
    RETURNING 1
), forgotten AS (
    DELETE FROM lakebase_operator.snapshots s
    WHERE s.connection = %(connection)s AND %(focus)s::oid[] IS NULL
      AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(rules)s::jsonb) AS j(snapshot text) WHERE j.snapshot = s.snapshot)
    RETURNING 1
)
