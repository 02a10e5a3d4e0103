-- What the operator's login can do here, before anything is tried.
SELECT current_user AS role,
       current_database() AS database,
       current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num,
       r.rolsuper AS superuser,
       r.rolcreaterole AS create_role,
       pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only,
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'databricks_superuser') AS is_lakebase,
       EXISTS (SELECT FROM pg_roles d WHERE d.rolname = 'databricks_superuser' AND pg_has_role(r.oid, d.oid, 'MEMBER'))
           AS databricks_superuser,
       has_database_privilege(current_database(), 'CREATE') AS create_on_database,
       r.rolsuper OR EXISTS (
           -- "|| '{}'" unpacks a long ACL, lest aclexplode do so again for each of its entries.
           SELECT FROM pg_database d, aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba)) || '{}'::aclitem[]) AS x
           WHERE d.datname = current_database() AND x.privilege_type = 'CONNECT' AND x.grantee <> 0
             AND pg_has_role(r.oid, x.grantee, 'USAGE')) AS own_connect,
       (SELECT e.extnamespace::regnamespace::text FROM pg_extension e WHERE e.extname = 'databricks_auth') AS databricks_auth,
       (SELECT count(*) = 5 FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'
        AND c.relname IN ('version', 'held', 'roles', 'snapshots', 'change_log'))
           -- What earlier versions made is completed by ledger.sql.
           AND EXISTS (SELECT FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                       WHERE c.relnamespace = n.oid AND c.relname = 'roles' AND a.attname = 'superuser') AS ledger,
       COALESCE(pg_get_userbyid(n.nspowner), '') AS ledger_owner,
       has_schema_privilege(n.oid, 'USAGE') AND EXISTS (
           SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND c.relname = 'version'
           AND has_table_privilege(c.oid, 'SELECT')) AS says_version
FROM pg_roles r
LEFT JOIN pg_namespace n ON n.nspname = 'lakebase_operator'
WHERE r.rolname = current_user
