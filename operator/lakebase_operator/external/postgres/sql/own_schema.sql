-- The schema %(name)s as the current role sees it. No row: there is none.
SELECT has_schema_privilege(n.oid, 'USAGE') AS usage,
       has_schema_privilege(n.oid, 'CREATE') AS creates,
       (SELECT array_agg(t.relname::text ORDER BY t.relname)
          FROM (SELECT c.relname
                  FROM pg_class AS c
                 WHERE c.relnamespace = n.oid
                   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                   AND NOT pg_has_role(c.relowner, 'USAGE')
                 ORDER BY c.relname
                 LIMIT 5) AS t) AS others
  FROM pg_namespace AS n
 WHERE n.nspname = %(name)s
