-- What each role holds by the ACLs of one database, what of it the ledger accounts for, and what each role owns.
--
--   %(home)s   also tablespaces and parameters, which the server's databases share
--   %(roles)s  oid[]: of whom it is asked what is declared, and what is not one by one
--   %(most)s   at most so many of these
--
-- Left out are the system's schemas, and what owners may do with their own. What any connection's ledger has is declared; where
-- there is no ledger, nothing is (ledger_held.sql, ledger_none.sql).
WITH place AS MATERIALIZED (
    SELECT oid, nspname AS name FROM pg_namespace WHERE nspname !~ '@SYSTEM_SCHEMA@'
),
-- "place" of an object: its schema, or what kind of thing it is. "part" as in rules.sql, "sub" as pg_identify_object takes it.
object AS MATERIALIZED (
    SELECT 'pg_class'::regclass AS catalog, c.oid, 0 AS sub, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS class,
           c.oid AS objid, 0::bigint AS part, p.name AS place, c.relowner AS owner, c.relacl AS acl
    FROM pg_class c JOIN place p ON p.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT (p.name = 'public' AND c.relname = 'health_check')
    UNION ALL
    SELECT 'pg_proc'::regclass, f.oid, 0, 'ROUTINE', f.oid, 0, p.name, f.proowner, f.proacl
    FROM pg_proc f JOIN place p ON p.oid = f.pronamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, 'TYPE', t.oid, 0, p.name, t.typowner, t.typacl
    FROM pg_type t JOIN place p ON p.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typcategory <> 'A' OR t.typtype = 'd') AND t.typtype IN ('b', 'c', 'd', 'e', 'r') AND (t.typrelid = 0 OR c.relkind = 'c')
    UNION ALL
    SELECT 'pg_namespace'::regclass, n.oid, 0, 'SCHEMA', n.oid, 0, n.nspname, n.nspowner, n.nspacl
    FROM pg_namespace n JOIN place p USING (oid)
    UNION ALL
    SELECT 'pg_database'::regclass, oid, 0, 'DATABASE', oid, 0, 'database', datdba, datacl
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'pg_language'::regclass, oid, 0, 'LANGUAGE', oid, 0, 'language', lanowner, lanacl FROM pg_language
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 'FOREIGN DATA WRAPPER', oid, 0, 'foreign-data wrapper', fdwowner, fdwacl
    FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_foreign_server'::regclass, oid, 0, 'FOREIGN SERVER', oid, 0, 'foreign server', srvowner, srvacl
    FROM pg_foreign_server
    UNION ALL
    SELECT 'pg_largeobject'::regclass, oid, 0, 'LARGE OBJECT', oid, 0, 'large object', lomowner, lomacl
    FROM pg_largeobject_metadata
    UNION ALL
    SELECT 'pg_tablespace'::regclass, oid, 0, 'TABLESPACE', oid, 0, 'tablespace', spcowner, spcacl
    FROM pg_tablespace WHERE %(home)s
    UNION ALL
    SELECT 'pg_parameter_acl'::regclass, oid, 0, 'PARAMETER', 0, hashtextextended(parname, 0), 'parameter', 10, paracl
    FROM pg_parameter_acl WHERE %(home)s
),
access_list AS (
    SELECT catalog, oid, sub, class, objid, part, owner, acl FROM object WHERE acl IS NOT NULL
    UNION ALL
    SELECT o.catalog, o.oid, a.attnum, 'COLUMN', o.oid, a.attnum, o.owner, a.attacl
    FROM object o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
    WHERE o.class = 'TABLE'
    UNION ALL
    SELECT 'pg_default_acl'::regclass, a.oid, 0, t.class, a.defaclrole, a.defaclnamespace::bigint, a.defaclrole, a.defaclacl
    FROM pg_default_acl a
    JOIN (VALUES ('r', 'DEFAULT TABLES'), ('S', 'DEFAULT SEQUENCES'), ('f', 'DEFAULT ROUTINES'), ('T', 'DEFAULT TYPES'),
                 ('n', 'DEFAULT SCHEMAS'), ('L', 'DEFAULT LARGE OBJECTS')) AS t(code, class) ON t.code = a.defaclobjtype
    WHERE a.defaclacl <> '{}'
),
-- Many objects have the same ACL: each distinct one is taken apart once, and grantees stay together in arrays. "|| '{}'" unpacks
-- a long one, lest aclexplode do so again for each of its entries.
shared AS MATERIALIZED (
    SELECT row_number() OVER () AS number, acl || '{}'::aclitem[] AS acl, owner, count(*) AS objects,
           array_agg(catalog) AS catalogs, array_agg(oid) AS oids, array_agg(sub) AS subs, array_agg(class) AS classes,
           array_agg(objid) AS objids, array_agg(part) AS parts
    FROM access_list GROUP BY acl, owner
),
item AS MATERIALIZED (
    SELECT s.number, x.privilege_type AS privilege, array_agg(DISTINCT x.grantee ORDER BY x.grantee) AS grantees
    FROM shared s CROSS JOIN LATERAL aclexplode(s.acl) AS x
    WHERE x.grantee <> s.owner GROUP BY s.number, x.privilege_type
),
-- What declarations account for; one row for each object and privilege.
held_by_row AS MATERIALIZED (
    SELECT class, objid, part, rtrim(privilege, '*') AS privilege, grantees,
           count(*) OVER (PARTITION BY class, objid, part, rtrim(privilege, '*')) AS rows
    FROM @LEDGER@
),
held AS MATERIALIZED (
    SELECT class, objid, part, privilege, grantees FROM held_by_row WHERE rows = 1
    UNION ALL
    SELECT class, objid, part, privilege, array_agg(DISTINCT g ORDER BY g)
    FROM held_by_row, unnest(grantees) AS g WHERE rows > 1 GROUP BY class, objid, part, privilege
),
undeclared AS MATERIALIZED (
    SELECT s.number, o.catalog, o.oid, o.sub, o.class, i.privilege, u.grantee
    FROM shared s
    CROSS JOIN LATERAL unnest(s.catalogs, s.oids, s.subs, s.classes, s.objids, s.parts) AS o(catalog, oid, sub, class, objid, part)
    JOIN item i ON i.number = s.number
    LEFT JOIN held h ON (h.class, h.objid, h.part, h.privilege) = (o.class, o.objid, o.part, i.privilege)
    CROSS JOIN LATERAL (SELECT unnest(i.grantees) EXCEPT SELECT unnest(h.grantees)) AS u(grantee)
    WHERE i.grantees IS DISTINCT FROM h.grantees AND i.grantees && %(roles)s::oid[]
),
shown AS MATERIALIZED (
    SELECT * FROM undeclared WHERE grantee = ANY (%(roles)s::oid[])
    ORDER BY grantee, class, oid, sub, privilege LIMIT %(most)s
),
grantor AS MATERIALIZED (
    SELECT s.number, x.privilege_type AS privilege, x.grantee, min(x.grantor) AS grantor
    FROM shared s CROSS JOIN LATERAL aclexplode(s.acl) AS x
    WHERE s.number IN (SELECT number FROM shown) GROUP BY s.number, x.privilege_type, x.grantee
),
granted AS (
    SELECT g AS grantee, sum(s.objects)::bigint AS total
    FROM item i JOIN shared s ON s.number = i.number CROSS JOIN LATERAL unnest(i.grantees) AS g GROUP BY g
),
beside AS (
    SELECT grantee, count(*) AS total FROM undeclared GROUP BY grantee
)
SELECT 'Granted' AS what, g.grantee AS role, NULL AS object, NULL AS privilege, NULL AS grantor, g.total,
       g.total - COALESCE(b.total, 0) AS declared
FROM granted g LEFT JOIN beside b ON b.grantee = g.grantee
UNION ALL
SELECT 'Owned', owner, place, NULL, NULL, count(*), 0 FROM object GROUP BY owner, place
UNION ALL
SELECT 'Undeclared', u.grantee, i.type || ' ' || i.identity, u.privilege, pg_get_userbyid(g.grantor)::text, 1, 0
FROM shown u
JOIN grantor g ON (g.number, g.privilege, g.grantee) = (u.number, u.privilege, u.grantee)
CROSS JOIN LATERAL pg_identify_object(u.catalog, u.oid, u.sub) AS i
