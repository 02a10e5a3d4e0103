-- Who is logged in, and whether pgaudit keeps a record of queries: one row. What the operator may not see is NULL or left out.
SELECT now() AS at,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pgaudit') AS audit_extension,
       EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting ~ '\ypgaudit\y') AS audit_preloaded,
       (SELECT setting FROM pg_settings WHERE name = 'pgaudit.log') AS audit_log,
       -- Without the right to look at a session its kind and start are not shown, but whose it is.
       COALESCE((SELECT jsonb_agg(jsonb_build_array(pid, usesysid, backend_start)) FROM pg_stat_activity
                 WHERE usesysid IS NOT NULL AND pid <> pg_backend_pid()
                   AND COALESCE(backend_type, 'client backend') = 'client backend'), '[]') AS sessions
