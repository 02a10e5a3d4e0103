-- What roles can do with the relations of a database in the end, and by which way. Reads catalogs only.
--
--   %(roles)s    text[]; NULL: all roles that log in, but those of the system
--   %(schemas)s  text[]; NULL: all but those of the system
WITH RECURSIVE role AS MATERIALIZED (
    SELECT oid, rolname::text AS name FROM pg_roles
    WHERE CASE WHEN %(roles)s::text[] IS NULL
               THEN rolcanlogin AND rolname !~* '@SYSTEM_ROLE@'
               ELSE rolname = ANY (%(roles)s::text[]) END
),
-- Roles whose privileges each has (INHERIT all the way), or that it can become (SET ROLE), with the way there.
chain AS (
    SELECT oid AS role, oid AS via, ARRAY[name] AS path, ARRAY[oid] AS oids, true AS inherited FROM role
    UNION ALL
    SELECT c.role, m.roleid, c.path || g.rolname::text, c.oids || m.roleid, c.inherited AND m.inherit_option
    FROM chain c
    JOIN pg_auth_members m ON m.member = c.via AND (m.inherit_option OR m.set_option)
    JOIN pg_roles g ON g.oid = m.roleid
    WHERE m.roleid <> ALL (c.oids)
),
-- Whoever owns the database is a member of pg_database_owner without a row that says so.
with_owner AS (
    SELECT role, via, path, inherited FROM chain
    UNION ALL
    SELECT c.role, o.oid, c.path || o.rolname::text, c.inherited
    FROM chain c JOIN pg_database d ON d.datname = current_database() AND d.datdba = c.via
    JOIN pg_roles o ON o.rolname = 'pg_database_owner'
),
way AS MATERIALIZED (
    SELECT DISTINCT ON (role, via) role, via, path, inherited FROM with_owner
    ORDER BY role, via, inherited DESC, cardinality(path), path
),
-- "|| '{}'" unpacks a long ACL, lest aclexplode do so again for each of its entries.
place AS MATERIALIZED (
    SELECT oid, nspname::text AS name, COALESCE(nspacl, acldefault('n', nspowner)) || '{}'::aclitem[] AS acl FROM pg_namespace
    WHERE nspname !~ '@SYSTEM_SCHEMA@'
      AND (%(schemas)s::text[] IS NULL OR nspname = ANY (%(schemas)s::text[]))
),
relation AS MATERIALIZED (
    SELECT c.oid, p.oid AS place, format('%%I.%%I', p.name, c.relname) AS name, c.relkind AS kind, c.relowner AS owner,
           COALESCE(c.relacl, acldefault('r', c.relowner)) || '{}'::aclitem[] AS acl,
           COALESCE('security_invoker=true' = ANY (c.reloptions) OR 'security_invoker=on' = ANY (c.reloptions), false) AS invoker
    FROM pg_class c JOIN place p ON p.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
reader AS MATERIALIZED (
    SELECT DISTINCT w.role, b.privilege, w.path, w.inherited
    FROM way w JOIN pg_roles g ON g.oid = w.via
    JOIN (VALUES ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'), ('pg_write_all_data', 'UPDATE'),
                 ('pg_write_all_data', 'DELETE')) AS b(name, privilege) ON b.name = g.rolname
),
super AS MATERIALIZED (
    SELECT w.role, w.path, w.via = w.role AS own FROM way w JOIN pg_roles g ON g.oid = w.via WHERE g.rolsuper
),
-- To use an object one needs USAGE on its schema, too; with SET ROLE the other role's counts.
usable AS MATERIALIZED (
    SELECT DISTINCT w.role, p.oid AS place
    FROM place p CROSS JOIN LATERAL aclexplode(p.acl) AS x JOIN way w ON x.grantee IN (w.via, 0)
    WHERE x.privilege_type = 'USAGE'
    UNION SELECT r.role, p.oid FROM reader r, place p
    UNION SELECT s.role, p.oid FROM super s, place p
),
held AS MATERIALIZED (
    SELECT w.role, r.oid, x.privilege_type AS privilege,
           CASE WHEN NOT w.inherited THEN 'SetRole' WHEN w.via <> w.role THEN 'Membership'
                WHEN r.owner = w.role THEN 'Owner' ELSE 'Granted' END AS way,
           array_to_string(w.path[2:], ' -> ') AS through
    FROM relation r CROSS JOIN LATERAL aclexplode(r.acl) AS x JOIN way w ON w.via = x.grantee
    UNION ALL
    SELECT q.oid, r.oid, x.privilege_type, 'Public', 'PUBLIC'
    FROM relation r CROSS JOIN LATERAL aclexplode(r.acl) AS x, role q WHERE x.grantee = 0
    UNION ALL
    SELECT w.role, r.oid, x.privilege_type || ' (' || a.attname || ')',
           CASE WHEN x.grantee = 0 THEN 'Public' WHEN NOT w.inherited THEN 'SetRole' WHEN w.via <> w.role THEN 'Membership'
                ELSE 'Granted' END,
           CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE array_to_string(w.path[2:], ' -> ') END
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    CROSS JOIN LATERAL aclexplode(a.attacl || '{}'::aclitem[]) AS x
    JOIN way w ON w.via = x.grantee OR (x.grantee = 0 AND w.via = w.role)
    UNION ALL
    SELECT d.role, r.oid, d.privilege, CASE WHEN d.inherited THEN 'Predefined' ELSE 'SetRole' END,
           array_to_string(d.path[2:], ' -> ')
    FROM reader d, relation r
    UNION ALL
    SELECT s.role, r.oid, 'ALL', CASE WHEN s.own THEN 'Superuser' ELSE 'SetRole' END, array_to_string(s.path[2:], ' -> ')
    FROM super s, relation r
),
-- A view reads with its owner's rights what it is made of, unless it is a security invoker.
base AS (
    SELECT v.oid AS view, d.refobjid AS oid, v.owner
    FROM relation v JOIN pg_rewrite w ON w.ev_class = v.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid
    WHERE v.kind IN ('v', 'm') AND NOT v.invoker
    UNION
    SELECT b.view, d.refobjid, i.relowner
    FROM base b JOIN pg_class i ON i.oid = b.oid AND i.relkind IN ('v', 'm')
    JOIN pg_rewrite w ON w.ev_class = i.oid
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> i.oid
)
SELECT q.name AS role, r.name AS object, h.privilege, h.way, h.through, false AS possible, u.place IS NOT NULL AS usable
FROM held h JOIN role q ON q.oid = h.role JOIN relation r ON r.oid = h.oid
LEFT JOIN usable u ON u.role = h.role AND u.place = r.place
UNION
SELECT q.name, t.name, 'SELECT', 'View', v.name, true, u.place IS NOT NULL
FROM (SELECT DISTINCT role, oid FROM held WHERE privilege IN ('SELECT', 'ALL')) AS h
JOIN base b ON b.view = h.oid
JOIN relation v ON v.oid = b.view
JOIN relation t ON t.oid = b.oid
JOIN role q ON q.oid = h.role
LEFT JOIN usable u ON u.role = h.role AND u.place = v.place
WHERE has_table_privilege(b.owner, t.oid, 'SELECT')
UNION
-- What such a function does, nobody but its text says.
SELECT q.name, format('%%I.%%I(%%s)', p.name, f.proname, pg_get_function_identity_arguments(f.oid)), 'EXECUTE',
       'SecurityDefinerFunction', pg_get_userbyid(f.proowner)::text, true, u.place IS NOT NULL
FROM pg_proc f JOIN place p ON p.oid = f.pronamespace
CROSS JOIN LATERAL aclexplode(COALESCE(f.proacl, acldefault('f', f.proowner)) || '{}'::aclitem[]) AS x
JOIN way w ON w.via = x.grantee OR (x.grantee = 0 AND w.via = w.role)
JOIN role q ON q.oid = w.role
LEFT JOIN usable u ON u.role = w.role AND u.place = p.oid
WHERE f.prosecdef AND x.privilege_type = 'EXECUTE' AND f.proowner <> w.role
ORDER BY 1, 2, 3, 4, 5
