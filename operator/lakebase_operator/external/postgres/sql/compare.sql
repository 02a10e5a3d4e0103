-- What is missing and what is there too much, per object and privilege, with everything needed to act on it.
-- One statement, whatever the number of rules, objects and grantees. Writes nothing.
, lacking AS MATERIALIZED (
    SELECT class, oid, part, privilege, rules, implied, wanted, COALESCE(held, '{}') AS held
    FROM outcome WHERE fulfilled IS NOT TRUE
),
formerly AS MATERIALIZED (
    SELECT l.class, l.oid, l.part, l.privilege, l.grantees, count(*) OVER (PARTITION BY class, oid, part, privilege) AS grantors
    FROM ledger l JOIN lacking USING (class, oid, part, privilege)
),
-- Few distinct combinations of arrays stand behind many rows: each is subtracted once.
lack AS MATERIALIZED (
    SELECT d.*, COALESCE(f.grantees, '{}') AS formerly
    FROM lacking d
    LEFT JOIN (
        SELECT class, oid, part, privilege, grantees FROM formerly WHERE grantors = 1
        UNION ALL
        SELECT class, oid, part, privilege, array_agg(DISTINCT g ORDER BY g)
        FROM formerly, unnest(grantees) AS g WHERE grantors > 1 GROUP BY class, oid, part, privilege
    ) AS f USING (class, oid, part, privilege)
),
lack_combination AS MATERIALIZED (
    SELECT c.*, m.grantees,
           CASE WHEN c.formerly = '{}' THEN '{}'
                ELSE ARRAY(SELECT unnest(m.grantees) INTERSECT SELECT unnest(c.formerly) ORDER BY 1) END AS drifted
    FROM (SELECT DISTINCT wanted, held, formerly FROM lack) AS c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.held = '{}' THEN c.wanted
                    ELSE ARRAY(SELECT unnest(c.wanted) EXCEPT SELECT unnest(c.held) ORDER BY 1) END AS grantees OFFSET 0
    ) AS m
),
-- What is held and should not be, for one of three reasons: it was ours and is not declared any more, its absence is declared,
-- or nobody declares it (the last only where that is asked for).
surplus AS MATERIALIZED (
    SELECT e.class, e.oid, e.part, e.privilege, e.grantor, e.owner, e.grantees AS held, e.grantors,
           COALESCE(k.grantees, '{}') AS claimed, COALESCE(d.grantees, '{}') AS wanted,
           COALESCE(f.grantees, '{}') AS forbidden, COALESCE(r.grantees, '{}') AS reached, f.rules,
           COALESCE(b.grantees, '{}') AS basic, COALESCE(w.grantees, '{}') AS elsewhere,
           s.oid IS NOT NULL AS searching
    FROM open_entry e
    LEFT JOIN claim k USING (class, oid, part, privilege, grantor)
    LEFT JOIN declared d USING (class, oid, part, privilege)
    LEFT JOIN forbid f USING (class, oid, part, privilege)
    LEFT JOIN reached r USING (class, oid, part, privilege)
    LEFT JOIN baseline b USING (class, oid, part, privilege)
    LEFT JOIN elsewhere w USING (class, oid, part, privilege)
    LEFT JOIN searched s USING (class, oid, part)
    WHERE k.grantees IS DISTINCT FROM d.grantees AND k.grantees IS NOT NULL
       OR f.grantees && e.grantees
       OR s.oid IS NOT NULL AND e.grantees IS DISTINCT FROM d.grantees
),
surplus_combination AS MATERIALIZED (
    SELECT c.*, x.origin, x.grantees,
           CASE x.origin WHEN 'Forbidden' THEN ARRAY(SELECT unnest(x.grantees) INTERSECT SELECT unnest(c.reached) ORDER BY 1)
                         ELSE '{}' END AS drifted
    FROM (SELECT DISTINCT owner, held, claimed, wanted, forbidden, reached, basic, elsewhere, searching FROM surplus) AS c
    CROSS JOIN LATERAL (
        SELECT 'Undeclared' AS origin,
               ARRAY((SELECT unnest(c.claimed) INTERSECT SELECT unnest(c.held))
                     EXCEPT (SELECT unnest(c.wanted) UNION SELECT unnest(c.forbidden)) ORDER BY 1) AS grantees
        UNION ALL
        SELECT 'Forbidden', ARRAY(SELECT unnest(c.held) INTERSECT SELECT unnest(c.forbidden) ORDER BY 1)
        UNION ALL
        SELECT 'Unmanaged',
               ARRAY(SELECT g FROM unnest(c.held) AS g WHERE g IN (SELECT oid FROM searched_grantee)
                     EXCEPT (SELECT unnest(c.claimed) UNION SELECT unnest(c.wanted) UNION SELECT unnest(c.forbidden)
                             UNION SELECT unnest(c.basic) UNION SELECT unnest(c.elsewhere) UNION SELECT c.owner)
                     ORDER BY 1)
        WHERE c.searching
        OFFSET 0
    ) AS x
    WHERE x.grantees <> '{}'
),
excess AS MATERIALIZED (
    SELECT s.class, s.oid, s.part, s.privilege, s.grantor, s.owner, s.grantors, s.rules, c.origin, c.grantees, c.drifted
    FROM surplus s
    JOIN surplus_combination c USING (owner, held, claimed, wanted, forbidden, reached, basic, elsewhere, searching)
),
-- Who else gave the same as is to be revoked: that stays, and the privilege with it.
others AS MATERIALIZED (
    SELECT s.class, s.oid, s.part, s.privilege, s.grantor, s.origin, array_agg(DISTINCT x.grantor) AS others
    FROM excess s
    JOIN entry x USING (class, oid, part, privilege)
    WHERE s.grantors > 1 AND x.grantor <> s.grantor AND x.grantees && s.grantees AND s.origin <> 'Forbidden'
    GROUP BY s.class, s.oid, s.part, s.privilege, s.grantor, s.origin
),
-- Where the operator has the grant option through a role; on a column, also that on the table.
mine AS MATERIALIZED (
    SELECT DISTINCT class, oid, part, rtrim(privilege, '*') AS privilege FROM entry WHERE mine
),
large AS MATERIALIZED (
    SELECT class, oid, part, cardinality(acl) AS entries FROM acl WHERE cardinality(acl) >= %(many)s
),
named AS MATERIALIZED (
    SELECT class, oid, part, schema, name, detail FROM candidate
    -- if COLUMN
    UNION ALL
    SELECT 'COLUMN', o.oid, o.part, c.schema, c.name, a.attname
    FROM object o JOIN candidate c ON c.class = 'TABLE' AND c.oid = o.oid
    JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = o.part
    WHERE o.class = 'COLUMN'
    -- end
    -- if DEFAULT
    UNION ALL
    SELECT o.class, o.oid, o.part, COALESCE(n.nspname, ''), r.rolname, NULL
    FROM object o JOIN pg_roles r ON r.oid = o.oid LEFT JOIN pg_namespace n ON n.oid = o.part::oid
    WHERE o.class LIKE 'DEFAULT %%'
    -- end
)
SELECT 'grant' AS tag, d.rules, d.class, d.oid, d.part, n.schema, n.name, n.detail, a.owner, d.privilege, NULL::oid AS grantor,
       m.grantees, m.drifted,
       a.owner IN (SELECT oid FROM my_role) OR y.oid IS NOT NULL OR t.oid IS NOT NULL AS grantable,
       d.implied, p.oid IS NOT NULL AS public, NULL::oid[] AS others, NULL::text AS origin,
       cardinality(a.acl)::bigint AS objects,
       NULL::bigint AS items, NULL::name[] AS columns,
       CASE WHEN cardinality(a.acl) + cardinality(m.grantees) > 2000
            THEN ARRAY(SELECT unnest(m.grantees) EXCEPT SELECT x.grantee FROM aclexplode(a.acl) AS x) END AS newcomers
FROM lack d
JOIN lack_combination m USING (wanted, held, formerly)
JOIN acl a USING (class, oid, part)
JOIN named n USING (class, oid, part)
LEFT JOIN public p USING (class, oid, part, privilege)
LEFT JOIN mine y ON y.class = d.class AND y.oid = d.oid AND y.part = d.part AND y.privilege = rtrim(d.privilege, '*')
-- Its own grant option a column takes only from one on the column, or from the owner.
LEFT JOIN mine t ON d.class = 'COLUMN' AND d.privilege NOT LIKE '%%*' AND t.class = 'TABLE' AND t.oid = d.oid AND t.privilege = rtrim(d.privilege, '*')
WHERE m.grantees <> '{}'

UNION ALL

SELECT 'revoke', COALESCE(k.rules, '{}'), k.class, k.oid, k.part, n.schema, n.name, n.detail, k.owner, k.privilege, k.grantor,
       k.grantees, k.drifted, false, false, p.oid IS NOT NULL, COALESCE(o.others, '{}'), k.origin, NULL, NULL, NULL, NULL
FROM excess k
JOIN named n USING (class, oid, part)
LEFT JOIN public p USING (class, oid, part, privilege)
LEFT JOIN others o USING (class, oid, part, privilege, grantor, origin)

UNION ALL

-- A REVOKE on a table takes the same privilege on its columns along: these are what must be given back.
SELECT 'columns', '{}', 'TABLE', k.oid, 0, n.nspname, c.relname, NULL, c.relowner, x.privilege_type, x.grantor, ARRAY[x.grantee],
       '{}', x.is_grantable, false, false, NULL, NULL, NULL, NULL, array_agg(a.attname ORDER BY a.attnum), NULL
FROM (SELECT oid, grantor, rtrim(privilege, '*') AS privilege, array_agg(DISTINCT g) AS grantees
      FROM excess, unnest(grantees) AS g WHERE class = 'TABLE' GROUP BY oid, grantor, rtrim(privilege, '*')) AS k
JOIN pg_class c ON c.oid = k.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = k.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) AS x
WHERE x.privilege_type = k.privilege AND x.grantor = k.grantor AND x.grantee = ANY (k.grantees)
  AND EXISTS (SELECT FROM excess)  -- else pg_attribute is read for nothing
GROUP BY k.oid, n.nspname, c.relname, c.relowner, x.privilege_type, x.grantor, x.grantee, x.is_grantable

UNION ALL

SELECT 'rule', ARRAY[r.id], r.class, NULL, NULL, r.schema, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       COALESCE(m.objects, 0), COALESCE(i.items, 0), NULL, NULL
FROM rule r
LEFT JOIN (SELECT rule, count(*) AS objects FROM matched GROUP BY rule) AS m ON m.rule = r.id
LEFT JOIN (SELECT rule, count(*) AS items FROM plain_item WHERE NOT implied GROUP BY rule) AS i ON i.rule = r.id

UNION ALL

-- Named, and not there; or not there yet when that counted.
SELECT 'absent', ARRAY[r.id], r.class, NULL, NULL, r.schema, x.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL
FROM rule r CROSS JOIN LATERAL unnest(r.names) AS x(name)
LEFT JOIN alias a ON a.class = r.class AND a.schema = r.schema AND a.name = x.name AND (r.only IS NULL OR a.oid = ANY (r.only))
LEFT JOIN pg_roles o ON r.class LIKE 'DEFAULT %%' AND o.rolname = x.name
WHERE a.name IS NULL AND o.oid IS NULL AND NOT x.name LIKE ANY (r.excluding)
  AND (r.class NOT IN ('DATABASE', 'PARAMETER', 'TABLESPACE') OR %(home)s AND x.name <> ALL (%(others)s::text[]))

-- if DEFAULT
UNION ALL

SELECT 'absent', ARRAY[r.id], 'SCHEMA', NULL, NULL, '', r.schema, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL
FROM rule r WHERE r.class LIKE 'DEFAULT %%' AND r.schema <> '' AND r.schema NOT IN (SELECT name FROM place)
-- end

-- if COLUMN
UNION ALL

SELECT 'absent', ARRAY[r.id], 'COLUMN', m.oid, NULL, m.schema, m.name, x.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL
FROM matched m JOIN rule r ON r.id = m.rule AND m.named CROSS JOIN LATERAL unnest(r.columns) AS x(name)
LEFT JOIN pg_attribute a ON a.attrelid = m.oid AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attname IS NULL
-- end

-- if writing
UNION ALL

(SELECT 'read-only', ARRAY[m.rule], 'TABLE', m.oid, NULL, m.schema, m.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL
 FROM matched m JOIN rule r ON r.id = m.rule
 WHERE r.access IN ('Write', 'Modify') AND m.class = 'TABLE' AND m.kind IN ('v', 'm', 'f')
   AND (m.rule, m.oid) NOT IN (SELECT rule, oid FROM plain_item WHERE class IN ('TABLE', 'COLUMN') AND privilege = 'INSERT')
 ORDER BY m.rule, m.name LIMIT 1000)
-- end

-- if absent
UNION ALL

-- Declared both present and absent.
(SELECT 'conflict', w.rules || f.rules, w.class, w.oid, w.part, n.schema, n.name, n.detail, NULL, w.privilege, NULL,
        ARRAY(SELECT unnest(c.grantees) INTERSECT SELECT unnest(f.grantees)), NULL, NULL, w.implied, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL
 FROM want w JOIN combination c USING (rules) JOIN forbid f USING (class, oid, part, privilege)
 JOIN named n USING (class, oid, part)
 LEFT JOIN public p USING (class, oid, part, privilege)
 WHERE NOT w.absent AND c.grantees && f.grantees AND NOT (w.implied AND p.oid IS NOT NULL)
 ORDER BY w.class, n.schema, n.name, w.privilege LIMIT 1000)

UNION ALL

-- Declared absent, and held by a grant that no REVOKE on the object reaches: to everybody, on the table of a column, or as a
-- default privilege for all schemas.
(SELECT 'otherwise', o.rules, o.class, o.oid, o.part, n.schema, n.name, n.detail, NULL, o.privilege, NULL, o.grantees, NULL, NULL,
        NULL, o.public, NULL, NULL, NULL, NULL, NULL, NULL
 FROM (
     SELECT f.rules, f.class, f.oid, f.part, f.privilege, f.grantees, true AS public
     FROM forbid f JOIN public p USING (class, oid, part, privilege) WHERE 0::oid <> ALL (f.grantees)
     UNION ALL
     SELECT f.rules, f.class, f.oid, f.part, f.privilege, x.grantees, false
     FROM forbid f
     CROSS JOIN LATERAL (SELECT CASE f.class WHEN 'COLUMN' THEN 'TABLE' ELSE f.class END AS class) AS w
     LEFT JOIN public p ON (p.class, p.oid, p.part, p.privilege) = (w.class, f.oid, 0, f.privilege)
     LEFT JOIN held h ON (h.class, h.oid, h.part, h.privilege) = (w.class, f.oid, 0, f.privilege)
     CROSS JOIN LATERAL (
         SELECT CASE WHEN p.oid IS NOT NULL THEN f.grantees
                     ELSE ARRAY(SELECT unnest(f.grantees) INTERSECT SELECT unnest(h.grantees) ORDER BY 1) END AS grantees
     ) AS x
     WHERE f.part <> 0 AND (f.class = 'COLUMN' OR f.class LIKE 'DEFAULT %%') AND x.grantees <> '{}'
 ) AS o
 JOIN named n USING (class, oid, part)
 ORDER BY o.class, n.schema, n.name, o.privilege LIMIT 1000)
-- end

UNION ALL

(SELECT 'large', d.rules, a.class, a.oid, a.part, n.schema, n.name, n.detail, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, a.entries, NULL, NULL, NULL
 FROM large a JOIN named n USING (class, oid, part)
 JOIN (SELECT w.class, w.oid, w.part, array_agg(DISTINCT x) AS rules FROM want w JOIN large USING (class, oid, part), unnest(w.rules) AS x
       WHERE NOT w.implied GROUP BY w.class, w.oid, w.part) AS d USING (class, oid, part)
 ORDER BY a.entries DESC LIMIT 100)

UNION ALL

SELECT 'ledger', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       (SELECT count(*) FROM (SELECT * FROM record WHERE grantees <> '{}') AS r
        FULL JOIN open_row l USING (class, oid, part, privilege, grantor)
        WHERE r.grantees IS DISTINCT FROM l.grantees)
       + (SELECT count(*) FROM lakebase_operator.version v, own_database o WHERE v.database <> o.oid)
       + (SELECT count(*) FROM jsonb_to_recordset(%(rules)s::jsonb) AS j(class text, snapshot text)
          WHERE j.snapshot IS NOT NULL AND NOT EXISTS (
              SELECT FROM lakebase_operator.snapshots s
              WHERE s.connection = %(connection)s AND s.snapshot = j.snapshot AND s.class = j.class)),
       (SELECT COALESCE(sum(cardinality(grantees)), 0)::bigint
        FROM (SELECT privilege, grantees FROM settled UNION ALL SELECT privilege, grantees FROM found) AS ours
        WHERE privilege NOT LIKE '%%*'), NULL, NULL

UNION ALL

(SELECT 'public', '{}', h.class, h.oid, h.part, n.schema, n.name, n.detail, NULL, h.privilege, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL
 FROM public h JOIN named n USING (class, oid, part)
 WHERE h.class IN ('DATABASE', 'SCHEMA', 'TABLE', 'COLUMN', 'SEQUENCE', 'ROUTINE')
 ORDER BY h.class, n.schema, n.name, h.privilege LIMIT 100)
