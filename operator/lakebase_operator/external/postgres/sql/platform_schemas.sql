-- What there is of the schemas that roles want for themselves (domain/platform_schema.py): one row for each that exists.
--
--   %(wanted)s  jsonb array of {schema, owners}: those whose relations may be in it
WITH wanted AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(wanted)s::jsonb) AS w(schema text, owners oid[])
)
SELECT n.oid, n.nspname AS name, n.nspowner AS owner,
       -- Whatever is in a schema depends on it; only the default privileges in it do so automatically.
       EXISTS (SELECT FROM pg_depend d
               WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n') AS occupied,
       f.foreign
FROM wanted w
JOIN pg_namespace n ON n.nspname = w.schema
LEFT JOIN LATERAL (
    SELECT format('%%s %%I of "%%s"',
                  CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END,
                  c.relname, pg_get_userbyid(c.relowner)) AS foreign
    FROM pg_class c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner <> ALL (w.owners)
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname LIMIT 1
) AS f ON true
