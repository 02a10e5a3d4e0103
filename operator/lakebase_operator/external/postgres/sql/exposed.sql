-- Tables, and what is like them, as an application is shown them. Reads catalogs only.
--
--   %(rules)s  jsonb array of selectors (domain/exposed.py)
--   %(role)s   the role whose right to read is looked at
--
-- One row for each table, and one with "missing" for each exact name that does not exist.
WITH rule AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rules)s::jsonb) AS r(schema text, names text[], matching text[], excluding text[])
),
reader AS MATERIALIZED (
    SELECT oid FROM pg_roles WHERE rolname = %(role)s::text
),
relation AS MATERIALIZED (
    SELECT c.oid, n.oid AS namespace, n.nspname::text AS schema, c.relname::text AS name, c.relkind AS kind, c.relispartition
    FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
    WHERE n.nspname IN (SELECT schema FROM rule) AND n.nspname !~ '@SYSTEM_SCHEMA@'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
-- As for AccessGrants: a partition, and what an extension brought, is meant only by its exact name.
selected AS MATERIALIZED (
    SELECT DISTINCT c.oid, c.namespace, c.schema, c.name, c.kind
    FROM relation c JOIN rule r ON r.schema = c.schema
    WHERE NOT c.name LIKE ANY (r.excluding)
      AND (c.name = ANY (r.names)
           OR (c.name LIKE ANY (r.matching) AND NOT c.relispartition AND NOT (c.schema = 'public' AND c.name = 'health_check')
               AND NOT EXISTS (SELECT FROM pg_depend d
                               WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')))
),
described AS MATERIALIZED (
    SELECT objoid, objsubid, left(description, 1024) AS comment
    FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid = ANY (ARRAY(SELECT oid FROM selected))
),
-- From PostgreSQL 18 on a NOT NULL may be NOT VALID: then rows of an earlier time may be null.
attribute AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k
                                        WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated
                                          AND k.conkey = ARRAY[a.attnum]) AS never_null
    FROM pg_attribute a
    WHERE a.attrelid = ANY (ARRAY(SELECT oid FROM selected)) AND a.attnum > 0 AND NOT a.attisdropped
),
columns AS MATERIALIZED (
    SELECT a.attrelid,
           json_agg(json_build_array(
               a.name, a.type, NOT a.never_null, a.attnum, d.comment,
               COALESCE(has_column_privilege((SELECT oid FROM reader), a.attrelid, a.attnum, 'SELECT'), false)
           ) ORDER BY a.attnum) AS list
    FROM attribute a LEFT JOIN described d ON d.objoid = a.attrelid AND d.objsubid = a.attnum
    GROUP BY a.attrelid
),
-- Unique indexes that tell all rows apart: whole, valid, checked at once, over columns that are never null. A primary key may
-- be checked at commit only. An index of a table with children (INHERITS) says nothing of their rows.
index AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts, k.attnum, k.place
    FROM pg_index i JOIN selected t ON t.oid = i.indrelid
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
    WHERE i.indrelid = ANY (ARRAY(SELECT oid FROM selected WHERE kind IN ('r', 'p')))
      AND i.indisunique AND i.indisvalid AND i.indislive AND (i.indimmediate OR i.indisprimary)
      AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
      AND NOT (t.kind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = t.oid))
),
unique_key AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts, array_agg(a.name ORDER BY i.place) AS names
    FROM index i JOIN attribute a ON a.attrelid = i.indrelid AND a.attnum = i.attnum AND a.never_null
    GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts
    HAVING count(*) = i.indnkeyatts
),
best_key AS MATERIALIZED (
    SELECT DISTINCT ON (indrelid) indrelid, names FROM unique_key
    ORDER BY indrelid, indisprimary DESC, indnkeyatts, names
)
SELECT false AS missing, t.schema, t.name,
       CASE t.kind WHEN 'r' THEN 'Table' WHEN 'p' THEN 'PartitionedTable' WHEN 'v' THEN 'View'
                   WHEN 'm' THEN 'MaterializedView' ELSE 'ForeignTable' END AS kind,
       d.comment, k.names AS key, t.kind IN ('r', 'p') AS key_known,
       COALESCE(has_schema_privilege((SELECT oid FROM reader), t.namespace, 'USAGE'), false) AS usable,
       COALESCE(has_any_column_privilege((SELECT oid FROM reader), t.oid, 'SELECT'), false) AS selectable,
       COALESCE(c.list, '[]') AS columns
FROM selected t
LEFT JOIN columns c ON c.attrelid = t.oid
LEFT JOIN described d ON d.objoid = t.oid AND d.objsubid = 0
LEFT JOIN best_key k ON k.indrelid = t.oid
UNION ALL
SELECT true, m.schema, m.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM (SELECT r.schema, g AS name FROM rule r CROSS JOIN LATERAL unnest(r.names) AS g
      EXCEPT SELECT schema, name FROM relation) AS m
ORDER BY 1, 2, 3
