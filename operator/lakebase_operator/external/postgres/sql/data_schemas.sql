-- Schemas in which the current role can read something, or holds something otherwise than through PUBLIC, and what it can read
-- there. Those of the system and %(leave_out)s are left out, and what belongs to extensions. A partition is reached through its
-- parent. A unique key is one that tells all rows apart, as in exposed.sql.
-- "|| '{}'" unpacks a long ACL, lest aclexplode do so again for each of its entries.
WITH relation AS (
    SELECT c.relnamespace,
           c.relname,
           has_schema_privilege(n.oid, 'USAGE')
               AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT')) AS readable,
           c.relacl IS NOT NULL AND EXISTS (
               SELECT FROM aclexplode(c.relacl || '{}'::aclitem[]) AS a
                WHERE a.grantee <> 0 AND pg_has_role(a.grantee, 'USAGE')
           ) AS held,
           c.relkind IN ('r', 'p') AND NOT EXISTS (
               SELECT FROM pg_index AS i
                WHERE i.indrelid = c.oid
                  AND i.indisunique AND i.indisvalid AND (i.indimmediate OR i.indisprimary)
                  AND i.indpred IS NULL AND i.indexprs IS NULL
                  AND NOT (c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhparent = c.oid))
                  AND NOT EXISTS (
                      SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                       WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull
                  )
           ) AS keyless
      FROM pg_class AS c
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND NOT c.relispartition
       AND n.nspname !~ '@SYSTEM_SCHEMA@'
       AND NOT (n.nspname = 'public' AND c.relname = 'health_check')
       AND NOT EXISTS (
           SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
       )
)
SELECT n.nspname::text AS name,
       has_schema_privilege(n.oid, 'USAGE') AS usage,
       count(r.relname)::int AS tables,
       (count(*) FILTER (WHERE r.readable))::int AS readable,
       (array_agg(r.relname::text ORDER BY r.relname) FILTER (WHERE r.readable AND r.keyless))[1:10] AS keyless
  FROM pg_namespace AS n
  LEFT JOIN relation AS r ON r.relnamespace = n.oid
 WHERE n.nspname !~ '@SYSTEM_SCHEMA@'
   AND n.nspname <> ALL (%(leave_out)s)
 GROUP BY n.oid, n.nspname
HAVING bool_or(r.readable)
    OR bool_or(r.held)
    OR EXISTS (
        SELECT FROM aclexplode((SELECT s.nspacl || '{}'::aclitem[] FROM pg_namespace AS s
                                 WHERE s.oid = n.oid AND s.nspacl IS NOT NULL)) AS a
         WHERE a.grantee <> 0 AND a.privilege_type = 'USAGE' AND pg_has_role(a.grantee, 'USAGE')
    )
 ORDER BY n.nspname
 LIMIT 100
