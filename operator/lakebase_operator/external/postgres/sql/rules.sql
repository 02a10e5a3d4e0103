-- Shared by compare.sql and record.sql: what the rules want (want, combination) and what the ACLs hold (entry).
--
--   %(rules)s         jsonb array of selectors (domain/desired.py)
--   %(connection)s    whose ledger
--   %(home)s, %(others)s
--                     Each database of the connection answers for CONNECT on itself; the home also for those that are not
--                     the connection's. others: its other databases
--   %(keep_drifted)s  what somebody took away by hand stays in the ledger, so that it is still known as such
--   %(opened)s        jsonb array of what PUBLIC was given in this very transaction
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
      AND CASE WHEN %(home)s THEN d.datname <> ALL (%(others)s::text[]) ELSE d.datname = current_database() END
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
               AND CASE WHEN EXISTS (SELECT FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver
                                     JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
                                     WHERE t.ftrelid = x.oid AND w.fdwhandler = 0)
                        THEN false  -- without a handler it cannot even be asked
                        ELSE pg_relation_is_updatable(x.oid, true) & p.bit <> 0 END))
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
    FROM lakebase_operator.held
    WHERE connection = %(connection)s
      AND (class <> 'DATABASE' OR EXISTS (SELECT FROM lakebase_operator.version JOIN own_database ON database = oid))
),
interesting_grantee AS MATERIALIZED (
    SELECT DISTINCT g AS oid FROM combination c, unnest(c.grantees) AS g
    UNION
    SELECT DISTINCT g FROM (SELECT DISTINCT grantees FROM ledger) AS l, unnest(l.grantees) AS g
),
object AS MATERIALIZED (
    SELECT class, oid FROM want UNION SELECT class, oid FROM ledger UNION SELECT 'DATABASE', oid FROM own_database
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
           count(*) FILTER (WHERE x.grantees <> '{}') OVER (PARTITION BY u.number, x.privilege) AS grantors
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
-- Who of the interesting grantees holds a privilege, whoever granted it; usually there is one grantor.
held AS MATERIALIZED (
    SELECT class, oid, privilege, grantees FROM entry WHERE grantors = 1 AND grantees <> '{}'
    UNION ALL
    SELECT class, oid, privilege, array_agg(DISTINCT g ORDER BY g)
    FROM entry, unnest(grantees) AS g WHERE grantors > 1 GROUP BY class, oid, privilege
),
public AS MATERIALIZED (
    SELECT DISTINCT class, oid, privilege FROM entry WHERE public
),
declared AS MATERIALIZED (
    SELECT w.class, w.oid, w.privilege, w.implied, w.rules, c.grantees
    FROM want w JOIN combination c USING (rules)
),
-- What other connections hold in this database.
elsewhere AS MATERIALIZED (
    SELECT class, objid AS oid, privilege, array_agg(DISTINCT g) AS grantees
    FROM lakebase_operator.held, unnest(grantees) AS g
    WHERE connection <> %(connection)s GROUP BY class, objid, privilege
),
-- The ledger with the grantor under which its entries are found today: a change of owner rewrites the grantor in the ACL.
-- Not claimed are an owner's own rights, and what is left to another connection that holds it too.
claim_by_row AS MATERIALIZED (
    SELECT l.class, l.oid, l.privilege, found.grantor,
           count(*) OVER (PARTITION BY l.class, l.oid, l.privilege, found.grantor) AS rows,
           CASE WHEN w.grantees IS NULL AND a.owner <> ALL (l.grantees) THEN l.grantees
                ELSE ARRAY(SELECT g FROM unnest(l.grantees) AS g
                           WHERE g <> a.owner AND (g = ANY (d.grantees) OR g <> ALL (COALESCE(w.grantees, '{}')))
                           ORDER BY g) END AS grantees
    FROM ledger l
    JOIN acl a USING (class, oid)
    LEFT JOIN entry e USING (class, oid, privilege, grantor)
    CROSS JOIN LATERAL (SELECT CASE WHEN e.owner IS NOT NULL THEN l.grantor ELSE a.owner END AS grantor) AS found
    LEFT JOIN declared d USING (class, oid, privilege)
    LEFT JOIN elsewhere w USING (class, oid, privilege)
),
claim AS MATERIALIZED (
    SELECT class, oid, privilege, grantor, grantees FROM claim_by_row WHERE rows = 1
    UNION ALL
    SELECT class, oid, privilege, grantor, array_agg(DISTINCT g ORDER BY g)
    FROM claim_by_row, unnest(grantees) AS g WHERE rows > 1 GROUP BY class, oid, privilege, grantor
),
-- What PUBLIC has had since the database or the extension was made: not ours, so it is never revoked.
public_by_default AS MATERIALIZED (
    SELECT a.class, a.oid, x.privilege_type AS privilege
    FROM acl a CROSS JOIN LATERAL aclexplode(acldefault('d', a.owner)) AS x
    WHERE a.class = 'DATABASE' AND x.grantee = 0
    UNION ALL
    SELECT o.class, o.oid, x.privilege_type
    FROM object o
    JOIN pg_init_privs i ON i.objoid = o.oid AND i.objsubid = 0
     AND i.classoid = CASE o.class WHEN 'SCHEMA' THEN 'pg_namespace'::regclass ELSE 'pg_class'::regclass END
    CROSS JOIN LATERAL aclexplode(i.initprivs) AS x
    WHERE o.class <> 'DATABASE' AND x.grantee = 0
    EXCEPT
    SELECT j.class, j.oid, j.privilege FROM jsonb_to_recordset(%(opened)s::jsonb) AS j(class text, oid oid, privilege text)
),
-- Of what is declared (or was, and could not be taken back) what the ACLs hold today.
-- A privilege that several grantors gave is recorded once: as before, else as the owner's.
-- Again, few distinct combinations of arrays stand behind many rows.
single AS MATERIALIZED (
    SELECT e.class, e.oid, e.privilege, e.grantor, e.owner, e.grantees AS held, COALESCE(d.grantees, '{}') AS wanted,
           COALESCE(k.grantees, '{}') AS claimed, b.oid IS NOT NULL AS public_by_default
    FROM entry e
    LEFT JOIN declared d USING (class, oid, privilege)
    LEFT JOIN claim k USING (class, oid, privilege, grantor)
    LEFT JOIN public_by_default b USING (class, oid, privilege)
    WHERE e.grantors = 1 AND e.grantees <> '{}'
),
single_combination AS MATERIALIZED (
    SELECT *, ARRAY(SELECT unnest(c.held)
                    INTERSECT (SELECT g FROM unnest(c.wanted) AS g WHERE g <> 0 OR NOT c.public_by_default
                               UNION SELECT unnest(c.claimed))
                    EXCEPT SELECT c.owner
                    ORDER BY 1) AS grantees
    FROM (SELECT DISTINCT owner, held, wanted, claimed, public_by_default FROM single) AS c
),
found AS MATERIALIZED (
    SELECT s.class, s.oid, s.privilege, s.grantor, c.grantees
    FROM single s JOIN single_combination c USING (owner, held, wanted, claimed, public_by_default)
    UNION ALL
    SELECT o.class, o.oid, o.privilege, o.grantor, array_agg(o.grantee ORDER BY o.grantee)
    FROM (
        SELECT DISTINCT ON (e.class, e.oid, e.privilege, g.grantee)
               e.class, e.oid, e.privilege, e.grantor, g.grantee
        FROM entry e
        CROSS JOIN LATERAL unnest(e.grantees) AS g(grantee)
        LEFT JOIN declared d USING (class, oid, privilege)
        LEFT JOIN public_by_default b USING (class, oid, privilege)
        LEFT JOIN claim k ON k.class = e.class AND k.oid = e.oid AND k.privilege = e.privilege AND k.grantor = e.grantor
                         AND g.grantee = ANY (k.grantees)
        WHERE e.grantors > 1 AND g.grantee <> e.owner
          AND (k.grantor IS NOT NULL OR (g.grantee = ANY (d.grantees) AND (g.grantee <> 0 OR b.oid IS NULL)))
        ORDER BY e.class, e.oid, e.privilege, g.grantee, k.grantor IS NULL, e.grantor <> e.owner, e.grantor
    ) AS o
    GROUP BY o.class, o.oid, o.privilege, o.grantor
),
drifted AS MATERIALIZED (
    SELECT k.class, k.oid, k.privilege, k.grantor, array_agg(DISTINCT g ORDER BY g) AS grantees
    FROM claim k
    JOIN declared d USING (class, oid, privilege)
    LEFT JOIN held h USING (class, oid, privilege)
    CROSS JOIN LATERAL unnest(k.grantees) AS g
    WHERE %(keep_drifted)s AND d.grantees IS DISTINCT FROM h.grantees
      AND g = ANY (d.grantees) AND g <> ALL (COALESCE(h.grantees, '{}'))
    GROUP BY k.class, k.oid, k.privilege, k.grantor
),
-- What the ledger has to say.
record AS MATERIALIZED (
    SELECT class, oid, privilege, grantor,
           CASE WHEN s.grantees IS NULL THEN f.grantees
                ELSE ARRAY(SELECT unnest(f.grantees) UNION SELECT unnest(s.grantees) ORDER BY 1) END AS grantees
    FROM found f FULL JOIN drifted s USING (class, oid, privilege, grantor)
)
