-- Shared by compare.sql and record.sql: what the rules want (want, combination) and what the ACLs hold (entry).
--
--   %(rules)s       jsonb array of selectors (domain/desired.py)
--   %(connection)s  whose ledger
--
-- Grantees are handled as sorted arrays per object and privilege, never row by row: 300,000 single privileges are 1,000 rows.
rule AS MATERIALIZED (
    SELECT r.id, r.class, r.schema, r.names, r.matching, r.excluding, r.access, r.privileges, r.grantees, s.objects AS only
    FROM jsonb_to_recordset(%(rules)s::jsonb) AS r(
        id int, class text, schema text, names text[], matching text[], excluding text[],
        access text, privileges text[], snapshot text, grantees oid[])
    LEFT JOIN lakebase_operator.snapshots s
      ON s.connection = %(connection)s AND s.snapshot = r.snapshot AND s.class = r.class
),
own_database AS MATERIALIZED (
    SELECT oid FROM pg_database WHERE datname = current_database()
),
extension_member AS MATERIALIZED (
    SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
),
-- Partitions are reached through their parent; one is selected only by its exact name.
relation AS MATERIALIZED (
    SELECT s.rule, c.oid, c.relkind, c.relname, c.relnamespace, bool_or(s.named) AS named
    FROM (
        SELECT r.id AS rule, c.oid, true AS named
        FROM rule r CROSS JOIN LATERAL unnest(r.names) AS x(name)
        JOIN pg_namespace n ON n.nspname = r.schema
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = x.name
        WHERE r.class = 'TABLE'
        UNION ALL
        SELECT r.id, c.oid, false
        FROM rule r
        JOIN pg_namespace n ON n.nspname = r.schema
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname LIKE ANY (r.matching)
        WHERE r.class = 'TABLE' AND r.matching <> '{}' AND NOT c.relispartition
          AND NOT (n.nspname = 'public' AND c.relname = 'health_check')
          AND c.oid NOT IN (SELECT objid FROM extension_member)
    ) AS s
    JOIN rule r ON r.id = s.rule
    JOIN pg_class c ON c.oid = s.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND NOT c.relname LIKE ANY (r.excluding)
      AND (r.only IS NULL OR c.oid = ANY (r.only))
    GROUP BY s.rule, c.oid, c.relkind, c.relname, c.relnamespace
),
matched AS MATERIALIZED (
    SELECT rule, 'TABLE' AS class, oid, relname AS name FROM relation
    UNION ALL
    SELECT r.id, 'SCHEMA', n.oid, n.nspname
    FROM rule r
    JOIN pg_namespace n
      ON n.nspname = ANY (r.names)
      OR (n.nspname LIKE ANY (r.matching)
          AND n.nspname !~ '^(pg_.*|information_schema|neon|neon_.*|__db_system|databricks_auth|lakebase_operator)$')
    WHERE r.class = 'SCHEMA' AND NOT n.nspname LIKE ANY (r.excluding)
      AND (r.only IS NULL OR n.oid = ANY (r.only))
    UNION ALL
    SELECT r.id, 'DATABASE', d.oid, d.datname
    FROM rule r
    JOIN pg_database d
      ON d.datname = ANY (r.names)
      OR (d.datname LIKE ANY (r.matching) AND NOT d.datistemplate AND d.datname <> 'postgres')
    WHERE r.class = 'DATABASE' AND NOT d.datname LIKE ANY (r.excluding)
      AND (r.only IS NULL OR d.oid = ANY (r.only))
),
-- (rule, class, oid, privilege): what each rule wants on each object.
item AS MATERIALIZED (
    SELECT m.rule, m.class, m.oid, p.privilege, false AS implied
    FROM matched m JOIN rule r ON r.id = m.rule CROSS JOIN LATERAL unnest(r.privileges) AS p(privilege)
    WHERE r.access IS NULL
    UNION ALL
    SELECT x.rule, 'TABLE', x.oid, 'SELECT', false
    FROM relation x JOIN rule r ON r.id = x.rule WHERE r.access IS NOT NULL
    UNION ALL
    SELECT x.rule, 'TABLE', x.oid, p.privilege, false
    FROM relation x JOIN rule r ON r.id = x.rule
    CROSS JOIN (VALUES ('INSERT', 8), ('UPDATE', 4), ('DELETE', 16), ('TRUNCATE', NULL)) AS p(privilege, bit)
    WHERE r.access = 'Write'
      AND (x.relkind IN ('r', 'p')
           -- Views and foreign tables: only what is updatable, and only where it is named on purpose.
           OR (x.relkind IN ('v', 'f') AND x.named AND p.bit IS NOT NULL
               AND pg_relation_is_updatable(x.oid, false) & p.bit <> 0))
    UNION ALL
    -- INSERT into a serial column needs its sequence; an identity column does not (deptype 'i').
    SELECT x.rule, 'SEQUENCE', d.objid, 'USAGE', false
    FROM relation x JOIN rule r ON r.id = x.rule
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = x.oid AND d.refobjsubid > 0 AND d.deptype = 'a'
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE r.access = 'Write'
    UNION ALL
    SELECT m.rule, m.class, m.oid, CASE m.class WHEN 'SCHEMA' THEN 'USAGE' ELSE 'CONNECT' END, false
    FROM matched m JOIN rule r ON r.id = m.rule
    WHERE r.access IS NOT NULL AND m.class IN ('SCHEMA', 'DATABASE')
    UNION ALL
    -- What makes a granted table usable.
    SELECT DISTINCT x.rule, 'SCHEMA', x.relnamespace, 'USAGE', true
    FROM relation x JOIN rule r ON r.id = x.rule WHERE r.access IS NOT NULL
    UNION ALL
    SELECT DISTINCT m.rule, 'DATABASE', d.oid, 'CONNECT', true
    FROM matched m JOIN rule r ON r.id = m.rule, own_database d
    WHERE r.access IS NOT NULL AND m.class <> 'DATABASE'
),
want AS MATERIALIZED (
    SELECT class, oid, privilege, bool_and(implied) AS implied, array_agg(rule ORDER BY rule) AS rules
    FROM (SELECT class, oid, privilege, rule, bool_and(implied) AS implied
          FROM item GROUP BY class, oid, privilege, rule) AS once
    GROUP BY class, oid, privilege
),
-- Few distinct combinations of rules stand behind many objects: their grantees are united once each.
combination AS MATERIALIZED (
    SELECT c.rules, array_agg(DISTINCT g ORDER BY g) AS grantees
    FROM (SELECT DISTINCT rules FROM want) AS c
    CROSS JOIN LATERAL unnest(c.rules) AS x(id) JOIN rule r USING (id) CROSS JOIN LATERAL unnest(r.grantees) AS g
    GROUP BY c.rules
),
ledger AS MATERIALIZED (
    SELECT class, objid AS oid, privilege, grantor, grantees
    FROM lakebase_operator.held WHERE connection = %(connection)s
),
interesting_grantee AS MATERIALIZED (
    SELECT DISTINCT g AS oid FROM combination c, unnest(c.grantees) AS g
    UNION
    SELECT DISTINCT g FROM (SELECT DISTINCT grantees FROM ledger) AS l, unnest(l.grantees) AS g
),
object AS MATERIALIZED (
    SELECT class, oid FROM want UNION SELECT class, oid FROM ledger
),
acl AS MATERIALIZED (
    SELECT o.class, o.oid, c.relowner AS owner,
           COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl
    FROM object o JOIN pg_class c ON c.oid = o.oid WHERE o.class IN ('TABLE', 'SEQUENCE')
    UNION ALL
    SELECT o.class, o.oid, n.nspowner, COALESCE(n.nspacl, acldefault('n', n.nspowner))
    FROM object o JOIN pg_namespace n ON n.oid = o.oid WHERE o.class = 'SCHEMA'
    UNION ALL
    SELECT o.class, o.oid, d.datdba, COALESCE(d.datacl, acldefault('d', d.datdba))
    FROM object o JOIN pg_database d ON d.oid = o.oid WHERE o.class = 'DATABASE'
),
-- Many objects have the same ACL: each distinct one is taken apart once.
shared_acl AS MATERIALIZED (
    SELECT row_number() OVER () AS number, acl, array_agg(class) AS classes, array_agg(oid) AS oids, array_agg(owner) AS owners
    FROM acl GROUP BY acl
),
exploded AS MATERIALIZED (
    SELECT u.number, x.privilege, x.grantor, x.grantees, x.public,
           count(*) OVER (PARTITION BY u.number, x.privilege) AS grantors
    FROM shared_acl u
    CROSS JOIN LATERAL (
        SELECT i.privilege_type AS privilege, i.grantor,
               COALESCE(array_agg(i.grantee ORDER BY i.grantee)
                        FILTER (WHERE i.grantee IN (SELECT oid FROM interesting_grantee)), '{}') AS grantees,
               bool_or(i.grantee = 0) AS public
        FROM aclexplode(u.acl) AS i
        GROUP BY i.privilege_type, i.grantor
    ) AS x
),
entry AS MATERIALIZED (
    SELECT o.class, o.oid, o.owner, x.privilege, x.grantor, x.grantees, x.public, x.grantors
    FROM shared_acl u
    CROSS JOIN LATERAL unnest(u.classes, u.oids, u.owners) AS o(class, oid, owner)
    JOIN exploded x USING (number)
),
-- Who holds a privilege, whoever granted it; usually there is one grantor.
held AS MATERIALIZED (
    SELECT class, oid, privilege, grantees, public FROM entry WHERE grantors = 1
    UNION ALL
    SELECT e.class, e.oid, e.privilege,
           ARRAY(SELECT DISTINCT g FROM entry f, unnest(f.grantees) AS g
                 WHERE (f.class, f.oid, f.privilege) = (e.class, e.oid, e.privilege) ORDER BY g),
           bool_or(e.public)
    FROM entry e WHERE e.grantors > 1 GROUP BY e.class, e.oid, e.privilege
),
declared AS MATERIALIZED (
    SELECT w.class, w.oid, w.privilege, w.implied, w.rules, c.grantees
    FROM want w JOIN combination c USING (rules)
),
-- The ledger with the grantor under which its entries are found today: a change of owner rewrites the grantor in the ACL.
claim AS MATERIALIZED (
    SELECT l.class, l.oid, l.privilege, l.grantees,
           CASE WHEN e.grantor IS NOT NULL THEN l.grantor ELSE a.owner END AS grantor
    FROM ledger l
    JOIN acl a USING (class, oid)
    LEFT JOIN entry e USING (class, oid, privilege, grantor)
),
-- What the ledger has to say: of what is declared (or was, and could not be taken back) what the ACLs hold today.
-- A privilege that several grantors gave is recorded once: as before, else as the owner's.
record AS MATERIALIZED (
    SELECT e.class, e.oid, e.privilege, e.grantor,
           CASE WHEN e.grantees = d.grantees THEN d.grantees
                ELSE ARRAY(SELECT unnest(e.grantees)
                           INTERSECT (SELECT unnest(d.grantees)
                                      UNION SELECT g FROM claim k, unnest(k.grantees) AS g
                                      WHERE (k.class, k.oid, k.privilege, k.grantor)
                                          = (e.class, e.oid, e.privilege, e.grantor))
                           ORDER BY 1) END AS grantees
    FROM entry e LEFT JOIN declared d USING (class, oid, privilege)
    WHERE e.grantors = 1
    UNION ALL
    SELECT o.class, o.oid, o.privilege, o.grantor, array_agg(o.grantee ORDER BY o.grantee)
    FROM (
        SELECT DISTINCT ON (e.class, e.oid, e.privilege, g.grantee)
               e.class, e.oid, e.privilege, e.grantor, g.grantee
        FROM entry e
        CROSS JOIN LATERAL unnest(e.grantees) AS g(grantee)
        LEFT JOIN declared d USING (class, oid, privilege)
        LEFT JOIN claim k ON (k.class, k.oid, k.privilege, k.grantor) = (e.class, e.oid, e.privilege, e.grantor)
                         AND g.grantee = ANY (k.grantees)
        WHERE e.grantors > 1 AND (k.grantor IS NOT NULL OR g.grantee = ANY (d.grantees))
        ORDER BY e.class, e.oid, e.privilege, g.grantee, k.grantor IS NULL, e.grantor <> e.owner, e.grantor
    ) AS o
    GROUP BY o.class, o.oid, o.privilege, o.grantor
)
