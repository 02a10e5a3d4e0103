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
       (SELECT e.extnamespace::regnamespace::text FROM pg_extension e WHERE e.extname = 'databricks_auth') AS databricks_auth,
       (SELECT count(*) = 5 FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'r'
        AND c.relname IN ('version', 'held', 'roles', 'snapshots', 'change_log')) AS ledger,
       COALESCE(pg_get_userbyid(n.nspowner), '') AS ledger_owner
FROM pg_roles r
LEFT JOIN pg_namespace n ON n.nspname = 'lakebase_operator'
WHERE r.rolname = current_user
