-- What is missing and what is there too much, per object and privilege, with everything needed to act on it.
-- One statement, whatever the number of rules, objects and grantees. Writes nothing.
, formerly AS MATERIALIZED (
    SELECT class, oid, privilege, grantees
    FROM (SELECT *, count(*) OVER (PARTITION BY class, oid, privilege) AS grantors FROM ledger) AS l WHERE grantors = 1
    UNION ALL
    SELECT class, oid, privilege, array_agg(DISTINCT g ORDER BY g)
    FROM (SELECT *, count(*) OVER (PARTITION BY class, oid, privilege) AS grantors FROM ledger) AS l, unnest(grantees) AS g
    WHERE grantors > 1 GROUP BY class, oid, privilege
),
-- Few distinct combinations of arrays stand behind many rows: each is subtracted once.
lack AS MATERIALIZED (
    SELECT d.class, d.oid, d.privilege, d.rules, d.implied, d.grantees AS wanted,
           COALESCE(h.grantees, '{}') AS held, COALESCE(f.grantees, '{}') AS formerly
    FROM declared d
    LEFT JOIN held h USING (class, oid, privilege)
    LEFT JOIN formerly f USING (class, oid, privilege)
    WHERE d.grantees IS DISTINCT FROM h.grantees
),
lack_combination AS MATERIALIZED (
    SELECT c.*, m.grantees, ARRAY(SELECT unnest(m.grantees) INTERSECT SELECT unnest(c.formerly) ORDER BY 1) AS drifted
    FROM (SELECT DISTINCT wanted, held, formerly FROM lack) AS c
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT unnest(c.wanted) EXCEPT SELECT unnest(c.held) ORDER BY 1) AS grantees OFFSET 0
    ) AS m
),
surplus AS MATERIALIZED (
    SELECT k.class, k.oid, k.privilege, k.grantor, k.grantees AS claimed, e.grantees AS held, e.grantors,
           COALESCE(d.grantees, '{}') AS wanted
    FROM claim k
    JOIN entry e USING (class, oid, privilege, grantor)
    LEFT JOIN declared d USING (class, oid, privilege)
    WHERE k.grantees IS DISTINCT FROM d.grantees
),
surplus_combination AS MATERIALIZED (
    SELECT c.*, ARRAY((SELECT unnest(c.claimed) INTERSECT SELECT unnest(c.held)) EXCEPT SELECT unnest(c.wanted) ORDER BY 1)
                AS grantees
    FROM (SELECT DISTINCT claimed, held, wanted FROM surplus) AS c
),
-- Who else gave the same as is to be revoked: that stays, and the privilege with it.
others AS MATERIALIZED (
    SELECT s.class, s.oid, s.privilege, s.grantor, array_agg(DISTINCT x.grantor) AS others
    FROM surplus s
    JOIN surplus_combination c USING (claimed, held, wanted)
    JOIN entry x ON x.class = s.class AND x.oid = s.oid AND x.privilege = s.privilege
    WHERE s.grantors > 1 AND x.grantor <> s.grantor AND x.grantees && c.grantees
    GROUP BY s.class, s.oid, s.privilege, s.grantor
)
SELECT 'grant' AS tag, d.rules, d.class, d.oid, n.schema, n.name, a.owner, d.privilege, NULL::oid AS grantor,
       m.grantees, m.drifted,
       CASE d.class
           WHEN 'SCHEMA' THEN has_schema_privilege(d.oid, d.privilege || ' WITH GRANT OPTION')
           WHEN 'DATABASE' THEN has_database_privilege(d.oid, d.privilege || ' WITH GRANT OPTION')
           WHEN 'SEQUENCE' THEN has_sequence_privilege(d.oid, d.privilege || ' WITH GRANT OPTION')
           ELSE has_table_privilege(d.oid, d.privilege || ' WITH GRANT OPTION')
       END AS grantable,
       d.implied, p.oid IS NOT NULL AS public, NULL::oid[] AS others, NULL::bigint AS objects, NULL::bigint AS items,
       NULL::name[] AS columns
FROM lack d
JOIN lack_combination m USING (wanted, held, formerly)
JOIN acl a USING (class, oid)
LEFT JOIN public p USING (class, oid, privilege)
JOIN LATERAL (
    SELECT s.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE d.class IN ('TABLE', 'SEQUENCE') AND c.oid = d.oid
    UNION ALL SELECT NULL, nspname FROM pg_namespace WHERE d.class = 'SCHEMA' AND oid = d.oid
    UNION ALL SELECT NULL, datname FROM pg_database WHERE d.class = 'DATABASE' AND oid = d.oid
) AS n ON true
WHERE m.grantees <> '{}'

UNION ALL

SELECT 'revoke', '{}', k.class, k.oid, n.schema, n.name, a.owner, k.privilege, k.grantor,
       s.grantees, '{}', false, false, p.oid IS NOT NULL, COALESCE(o.others, '{}'), NULL, NULL, NULL
FROM surplus k
JOIN surplus_combination s USING (claimed, held, wanted)
JOIN acl a USING (class, oid)
LEFT JOIN public p USING (class, oid, privilege)
LEFT JOIN others o USING (class, oid, privilege, grantor)
JOIN LATERAL (
    SELECT s.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE k.class IN ('TABLE', 'SEQUENCE') AND c.oid = k.oid
    UNION ALL SELECT NULL, nspname FROM pg_namespace WHERE k.class = 'SCHEMA' AND oid = k.oid
    UNION ALL SELECT NULL, datname FROM pg_database WHERE k.class = 'DATABASE' AND oid = k.oid
) AS n ON true
WHERE s.grantees <> '{}'

UNION ALL

-- A REVOKE on a table takes the same privilege on its columns along: these are what must be given back.
SELECT 'columns', '{}', k.class, k.oid, n.nspname, c.relname, c.relowner, k.privilege, k.grantor, ARRAY[x.grantee], '{}',
       x.is_grantable, false, false, NULL, NULL, NULL, array_agg(a.attname ORDER BY a.attnum)
FROM surplus k
JOIN surplus_combination s USING (claimed, held, wanted)
JOIN pg_class c ON c.oid = k.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = k.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) AS x
WHERE k.class = 'TABLE' AND x.privilege_type = k.privilege AND x.grantor = k.grantor AND x.grantee = ANY (s.grantees)
GROUP BY k.class, k.oid, n.nspname, c.relname, c.relowner, k.privilege, k.grantor, x.grantee, x.is_grantable

UNION ALL

SELECT 'rule', ARRAY[r.id], r.class, NULL, r.schema, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       COALESCE(m.objects, 0), COALESCE(i.items, 0), NULL
FROM rule r
LEFT JOIN (SELECT rule, count(*) AS objects FROM matched GROUP BY rule) AS m ON m.rule = r.id
LEFT JOIN (SELECT rule, count(*) AS items FROM item WHERE NOT implied GROUP BY rule) AS i ON i.rule = r.id

UNION ALL

SELECT 'absent', ARRAY[r.id], r.class, NULL, r.schema, x.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL
FROM rule r CROSS JOIN LATERAL unnest(r.names) AS x(name)
LEFT JOIN matched m ON m.rule = r.id AND m.name = x.name
WHERE m.rule IS NULL AND NOT x.name LIKE ANY (r.excluding)
  AND (r.class <> 'DATABASE' OR (%(home)s AND x.name <> ALL (%(others)s::text[])))

UNION ALL

(SELECT 'read-only', ARRAY[x.rule], 'TABLE', x.oid, n.nspname, x.relname, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL
 FROM relation x JOIN rule r ON r.id = x.rule JOIN pg_namespace n ON n.oid = x.relnamespace
 WHERE r.access = 'Write' AND x.relkind IN ('v', 'm', 'f')
   AND (x.rule, x.oid) NOT IN (SELECT rule, oid FROM item WHERE class = 'TABLE' AND privilege = 'INSERT')
 ORDER BY x.rule, x.relname LIMIT 1000)

UNION ALL

SELECT 'ledger', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       (SELECT count(*) FROM (SELECT * FROM record WHERE grantees <> '{}') AS r
        FULL JOIN ledger l USING (class, oid, privilege, grantor)
        WHERE r.grantees IS DISTINCT FROM l.grantees)
       + (SELECT count(*) FROM lakebase_operator.version v, own_database o WHERE v.database <> o.oid)
       + (SELECT count(*) FROM jsonb_to_recordset(%(rules)s::jsonb) AS j(class text, snapshot text)
          WHERE j.snapshot IS NOT NULL AND NOT EXISTS (
              SELECT FROM lakebase_operator.snapshots s
              WHERE s.connection = %(connection)s AND s.snapshot = j.snapshot AND s.class = j.class)),
       (SELECT COALESCE(sum(cardinality(grantees)), 0)::bigint FROM found), NULL

UNION ALL

(SELECT 'public', '{}', h.class, h.oid, s.nspname, COALESCE(c.relname, n.nspname, d.datname), NULL, h.privilege, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL
 FROM public h
 LEFT JOIN pg_class c ON h.class IN ('TABLE', 'SEQUENCE') AND c.oid = h.oid
 LEFT JOIN pg_namespace s ON s.oid = c.relnamespace
 LEFT JOIN pg_namespace n ON h.class = 'SCHEMA' AND n.oid = h.oid
 LEFT JOIN pg_database d ON h.class = 'DATABASE' AND d.oid = h.oid
 ORDER BY h.class, s.nspname, 6, h.privilege LIMIT 100)
