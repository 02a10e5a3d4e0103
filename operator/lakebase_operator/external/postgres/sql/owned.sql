-- Objects that roles are to own (domain/ownership.py) and somebody else owns, with what the operator needs to hand them over.
--
--   %(rules)s  jsonb array of selectors
--   %(platform)s  text[]: schemas that are an application's own: patterns leave them out
--   %(home)s   databases themselves are looked at in one database only
--
-- One row for each object that a rule wants to have another owner, with all rules that select it: the first one decides; one
-- tagged 'owned' for each role with the number of its objects; one tagged 'absent' for each exact name that does not exist.
WITH rule AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(rules)s::jsonb) AS r(
        id int, class text, schema text, names text[], matching text[], excluding text[], owner oid)
),
routine AS MATERIALIZED (
    SELECT p.oid, n.nspname AS schema, n.oid AS namespace, p.proname::text AS name, p.proowner AS owner,
           p.proname || '(' || COALESCE((SELECT string_agg(format_type(t.type, NULL), ',' ORDER BY t.n)
                                         FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t(type, n)), '') || ')' AS signature
    FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid
    WHERE n.nspname IN (SELECT schema FROM rule WHERE class = 'ROUTINE')
),
-- (rule, oid, name, text: as a statement names it, owner, schema)
matched AS MATERIALIZED (
    -- Partitions are owned each for itself. A sequence that a column owns goes with its table, as does an identity.
    SELECT r.id AS rule, c.oid, c.relname::text AS name, format('%%I.%%I', n.nspname, c.relname) AS text, c.relowner AS owner,
           n.oid AS schema
    FROM rule r
    JOIN pg_namespace n ON n.nspname = r.schema
    JOIN pg_class c ON c.relnamespace = n.oid
    WHERE CASE r.class WHEN 'TABLE' THEN c.relkind IN ('r', 'p', 'v', 'm', 'f') WHEN 'SEQUENCE' THEN c.relkind = 'S' END
      AND (c.relname = ANY (r.names)
           OR (c.relname LIKE ANY (r.matching)
               AND NOT (n.nspname = 'public' AND c.relname = 'health_check')
               AND NOT EXISTS (SELECT FROM pg_depend d
                               WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                 AND (d.deptype = 'e' OR (c.relkind = 'S' AND d.deptype IN ('a', 'i')
                                                          AND d.refclassid = 'pg_class'::regclass)))))
    UNION ALL
    -- f(integer, s.t) is one routine, f all its overloads.
    -- IN: else a procedure with the same types, some of them OUT, makes the name ambiguous.
    SELECT r.id, p.oid, p.name,
           format('%%I.%%I(%%s)', p.schema, p.name,
                  (SELECT string_agg('IN ' || format_type(a.t, NULL), ', ' ORDER BY a.i)
                   FROM pg_proc f, unnest(f.proargtypes) WITH ORDINALITY AS a(t, i) WHERE f.oid = p.oid)),
           p.owner, p.namespace
    FROM rule r
    JOIN routine p ON p.schema = r.schema
    WHERE r.class = 'ROUTINE'
      AND (EXISTS (SELECT FROM unnest(r.names) AS g
                   WHERE g = p.name OR regexp_replace(g, '\s*,\s*', ',', 'g') = p.signature)
           OR (p.name LIKE ANY (r.matching)
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                                                         AND d.deptype = 'e')))
    UNION ALL
    -- Row types, array types and multiranges come and go with what they belong to.
    SELECT r.id, t.oid, t.typname, format('%%I.%%I', n.nspname, t.typname), t.typowner, n.oid
    FROM rule r
    JOIN pg_namespace n ON n.nspname = r.schema
    JOIN pg_type t ON t.typnamespace = n.oid
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE r.class = 'TYPE' AND t.typtype IN ('b', 'c', 'd', 'e', 'r') AND (t.typrelid = 0 OR c.relkind = 'c')
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
      AND (t.typname = ANY (r.names)
           OR (t.typname LIKE ANY (r.matching)
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid
                                                         AND d.deptype = 'e')))
    UNION ALL
    -- public belongs to everybody's database: it is meant only by its name.
    SELECT r.id, n.oid, n.nspname, quote_ident(n.nspname), n.nspowner, NULL
    FROM rule r
    JOIN pg_namespace n
      ON n.nspname = ANY (r.names)
      OR (n.nspname LIKE ANY (r.matching)
          AND n.nspname !~ '@SYSTEM_SCHEMA@' AND n.nspname <> 'public' AND n.nspname <> ALL (%(platform)s::text[]))
    WHERE r.class = 'SCHEMA'
    UNION ALL
    SELECT r.id, d.oid, d.datname, quote_ident(d.datname), d.datdba, NULL
    FROM rule r
    JOIN pg_database d
      ON d.datname = ANY (r.names)
      OR (d.datname LIKE ANY (r.matching) AND NOT d.datistemplate AND d.datname <> 'postgres')
    WHERE r.class = 'DATABASE' AND %(home)s
    UNION ALL
    SELECT r.id, l.oid, l.lanname, quote_ident(l.lanname), l.lanowner, NULL
    FROM rule r
    JOIN pg_language l ON l.lanname = ANY (r.names) OR (l.lanname LIKE ANY (r.matching) AND l.lanpltrusted AND l.lanispl)
    WHERE r.class = 'LANGUAGE'
    UNION ALL
    SELECT r.id, f.oid, f.fdwname, quote_ident(f.fdwname), f.fdwowner, NULL
    FROM rule r
    JOIN pg_foreign_data_wrapper f ON f.fdwname = ANY (r.names) OR f.fdwname LIKE ANY (r.matching)
    WHERE r.class = 'FOREIGN DATA WRAPPER'
    UNION ALL
    SELECT r.id, s.oid, s.srvname, quote_ident(s.srvname), s.srvowner, NULL
    FROM rule r
    JOIN pg_foreign_server s ON s.srvname = ANY (r.names) OR s.srvname LIKE ANY (r.matching)
    WHERE r.class = 'SERVER'
    UNION ALL
    SELECT r.id, l.oid, l.oid::text, l.oid::text, l.lomowner, NULL
    FROM rule r
    JOIN pg_largeobject_metadata l ON l.oid::text = ANY (r.names)
    WHERE r.class = 'LARGE OBJECT'
),
selected AS MATERIALIZED (
    SELECT r.class, r.owner AS wanted, m.*
    FROM matched m JOIN rule r ON r.id = m.rule
    WHERE NOT m.name LIKE ANY (r.excluding)
),
object AS MATERIALIZED (
    SELECT class, oid, text, owner, schema, array_agg(rule ORDER BY rule) AS rules,
           (array_agg(wanted ORDER BY rule))[1] AS wanted, bool_or(wanted <> owner) AS differs
    FROM selected GROUP BY class, oid, text, owner, schema
)
SELECT 'object' AS tag, o.rules, o.class, o.oid, o.text AS name, o.owner, quote_ident(n.nspname) AS schema,
       n.nspowner AS schema_owner,
       o.schema IS NULL OR has_schema_privilege(o.wanted, o.schema, 'CREATE') AS new_may_create,
       o.schema IS NULL OR has_schema_privilege(o.owner, o.schema, 'USAGE') AS owner_may_use,
       o.schema IS NULL OR has_schema_privilege(o.schema, 'USAGE') AS operator_may_use,
       o.schema IS NOT NULL AND has_schema_privilege(o.schema, 'CREATE WITH GRANT OPTION')
           AND has_schema_privilege(o.schema, 'USAGE WITH GRANT OPTION') AS grantable,
       pg_has_role(o.owner, o.wanted, 'SET') AS owner_may_become,
       NULL::bigint AS objects
FROM object o LEFT JOIN pg_namespace n ON n.oid = o.schema
WHERE o.differs
UNION ALL
SELECT 'owned', NULL, NULL, NULL, NULL, owner, NULL, NULL, NULL, NULL, NULL, NULL, NULL, count(DISTINCT (class, oid))
FROM selected WHERE owner = wanted GROUP BY owner
UNION ALL
SELECT 'absent', ARRAY[r.id], r.class, NULL, concat_ws('.', r.schema, g), NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL
FROM rule r CROSS JOIN LATERAL unnest(r.names) AS g
WHERE NOT EXISTS (SELECT FROM matched m WHERE m.rule = r.id AND m.name = g)
  AND NOT EXISTS (SELECT FROM routine p WHERE r.class = 'ROUTINE' AND p.schema = r.schema
                                          AND regexp_replace(g, '\s*,\s*', ',', 'g') = p.signature)
  AND (r.class <> 'DATABASE' OR %(home)s)
