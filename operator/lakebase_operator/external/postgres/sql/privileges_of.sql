-- Every privilege that a role holds in this database by an ACL, with its grantor and the object as a statement names it.
SELECT x.grantor, x.privilege_type AS privilege,
       CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS class,
       format('%%I.%%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS x
WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, format('%%s (%%I)', x.privilege_type, a.attname), 'TABLE', format('%%I.%%I', n.nspname, c.relname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
     aclexplode(a.attacl) AS x
WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'SCHEMA', quote_ident(n.nspname)
FROM pg_namespace n, aclexplode(n.nspacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'DATABASE', quote_ident(d.datname)
FROM pg_database d, aclexplode(d.datacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'ROUTINE', p.oid::regprocedure::text
FROM pg_proc p, aclexplode(p.proacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'TYPE', t.oid::regtype::text
FROM pg_type t, aclexplode(t.typacl) AS x WHERE x.grantee = %(role)s
