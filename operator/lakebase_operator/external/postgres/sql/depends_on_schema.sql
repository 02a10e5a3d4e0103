-- Objects outside of a schema that DROP SCHEMA … CASCADE would take along, or take something from; the first ten.
--
--   %(schema)s  oid
WITH RECURSIVE going AS (
    SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = %(schema)s
    UNION
    SELECT d.classid, d.objid FROM going g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
),
-- What has no schema of its own is that of the table that it belongs to. Schemas are named as a statement names them.
named AS MATERIALIZED (
    SELECT i.type, i.identity,
           COALESCE(i.schema, c.connamespace::regnamespace::text,
                    CASE WHEN cardinality(a.object_names) > 1 THEN quote_ident(a.object_names[1]) END) AS schema
    FROM going g
    LEFT JOIN pg_constraint c ON g.classid = 'pg_constraint'::regclass AND c.oid = g.objid
    CROSS JOIN LATERAL pg_identify_object(g.classid, g.objid, 0) AS i
    CROSS JOIN LATERAL pg_identify_object_as_address(g.classid, g.objid, 0) AS a
    WHERE g.classid <> 'pg_default_acl'::regclass
)
SELECT type || ' ' || identity AS name FROM named
WHERE schema IS DISTINCT FROM (SELECT quote_ident(nspname) FROM pg_namespace WHERE oid = %(schema)s) AND schema IS DISTINCT FROM 'pg_toast'
ORDER BY 1 LIMIT 10
