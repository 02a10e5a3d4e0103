-- Writes into the ledger what the ACLs hold now, in the transaction that has changed them. Only rows that differ.
, gone AS (
    DELETE FROM lakebase_operator.held h
    WHERE h.connection = %(connection)s
      AND NOT EXISTS (SELECT FROM record r
                      WHERE (r.class, r.oid, r.privilege, r.grantor) = (h.class, h.objid, h.privilege, h.grantor)
                        AND r.grantees <> '{}')
    RETURNING 1
), written AS (
    INSERT INTO lakebase_operator.held AS h (connection, class, objid, privilege, grantor, grantees)
    SELECT %(connection)s, r.class, r.oid, r.privilege, r.grantor, r.grantees
    FROM record r LEFT JOIN ledger l USING (class, oid, privilege, grantor)
    WHERE r.grantees <> '{}' AND r.grantees IS DISTINCT FROM l.grantees
    ON CONFLICT (connection, class, objid, privilege, grantor) DO UPDATE SET grantees = EXCLUDED.grantees
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
    WHERE v.database <> o.oid AND h.class = 'DATABASE' AND h.objid <> o.oid
    RETURNING 1
), moved AS (
    UPDATE lakebase_operator.version SET database = o.oid FROM own_database o WHERE database <> o.oid
    RETURNING 1
), forgotten AS (
    DELETE FROM lakebase_operator.snapshots s
    WHERE s.connection = %(connection)s
      AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(rules)s::jsonb) AS j(snapshot text) WHERE j.snapshot = s.snapshot)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM written)
