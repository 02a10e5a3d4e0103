-- Statements that take back from everybody but the owner what event triggers and default privileges gave on the ledger.
SELECT format('REVOKE ALL ON %s %s FROM %s CASCADE', kind, name,
              CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END) AS statement
FROM (
    SELECT format('%I.%I', n.nspname, c.relname) AS name, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
           x.grantee
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS x
    WHERE n.nspname = 'lakebase_operator' AND c.relkind IN ('r', 'S') AND x.grantee <> c.relowner
    UNION
    SELECT quote_ident(n.nspname), 'SCHEMA', x.grantee
    FROM pg_namespace n, aclexplode(n.nspacl) AS x
    WHERE n.nspname = 'lakebase_operator' AND x.grantee <> n.nspowner
) AS opened
