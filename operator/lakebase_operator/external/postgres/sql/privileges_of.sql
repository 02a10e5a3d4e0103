-- Every privilege that a role holds or has given in this database by an ACL, with the object as a statement names it. Default
-- privileges are not here: DROP OWNED takes them, and the role's own, whoever made them.
-- "|| '{}'" unpacks a long ACL, lest aclexplode do so again for each of its entries.
SELECT x.grantor, x.grantee, x.privilege_type || o.columns AS privilege, o.class, o.name
FROM (
    SELECT c.relacl AS acl, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS class,
           format('%%I.%%I', n.nspname, c.relname) AS name, '' AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    SELECT a.attacl, 'TABLE', format('%%I.%%I', n.nspname, c.relname), format(' (%%I)', a.attname)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION ALL
    SELECT nspacl, 'SCHEMA', quote_ident(nspname), '' FROM pg_namespace
    UNION ALL
    SELECT datacl, 'DATABASE', quote_ident(datname), '' FROM pg_database
    UNION ALL
    SELECT spcacl, 'TABLESPACE', quote_ident(spcname), '' FROM pg_tablespace
    UNION ALL
    SELECT paracl, 'PARAMETER', (SELECT string_agg(quote_ident(part), '.' ORDER BY number)
                                 FROM regexp_split_to_table(parname, '[.]') WITH ORDINALITY AS s(part, number)), ''
    FROM pg_parameter_acl
    UNION ALL
    SELECT lomacl, 'LARGE OBJECT', oid::text, '' FROM pg_largeobject_metadata
    UNION ALL
    SELECT lanacl, 'LANGUAGE', quote_ident(lanname), '' FROM pg_language
    UNION ALL
    SELECT fdwacl, 'FOREIGN DATA WRAPPER', quote_ident(fdwname), '' FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT srvacl, 'FOREIGN SERVER', quote_ident(srvname), '' FROM pg_foreign_server
    UNION ALL
    SELECT proacl, 'ROUTINE', oid::regprocedure::text, '' FROM pg_proc
    UNION ALL
    SELECT typacl, 'TYPE', oid::regtype::text, '' FROM pg_type
) AS o
CROSS JOIN LATERAL aclexplode(o.acl || '{}'::aclitem[]) AS x
WHERE o.acl IS NOT NULL AND %(role)s IN (x.grantee, x.grantor)
