-- Every privilege that a role holds in this database by an ACL, with its grantor and the object as a statement names it. Default
-- privileges are not here: DROP OWNED takes them, and the role's own, whoever made them.
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
SELECT x.grantor, x.privilege_type, 'TABLESPACE', quote_ident(t.spcname)
FROM pg_tablespace t, aclexplode(t.spcacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'PARAMETER',
       (SELECT string_agg(quote_ident(part), '.' ORDER BY number)
        FROM regexp_split_to_table(p.parname, '[.]') WITH ORDINALITY AS s(part, number))
FROM pg_parameter_acl p, aclexplode(p.paracl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'LARGE OBJECT', l.oid::text
FROM pg_largeobject_metadata l, aclexplode(l.lomacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'LANGUAGE', quote_ident(l.lanname)
FROM pg_language l, aclexplode(l.lanacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'FOREIGN DATA WRAPPER', quote_ident(f.fdwname)
FROM pg_foreign_data_wrapper f, aclexplode(f.fdwacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'FOREIGN SERVER', quote_ident(s.srvname)
FROM pg_foreign_server s, aclexplode(s.srvacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'ROUTINE', p.oid::regprocedure::text
FROM pg_proc p, aclexplode(p.proacl) AS x WHERE x.grantee = %(role)s
UNION ALL
SELECT x.grantor, x.privilege_type, 'TYPE', t.oid::regtype::text
FROM pg_type t, aclexplode(t.typacl) AS x WHERE x.grantee = %(role)s
