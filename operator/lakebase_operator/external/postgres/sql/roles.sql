-- All roles of the server, what the operator may do with each, and which Databricks identity stands behind it.
SELECT r.oid, r.rolname AS name, r.rolsuper AS superuser, r.rolcanlogin AS login, r.rolcreatedb AS create_db,
       r.rolcreaterole AS create_role, r.rolbypassrls AS bypass_rls, r.rolinherit AS inherit,
       r.rolconnlimit AS connection_limit, r.rolvaliduntil::text AS valid_until,
       COALESCE(s.setconfig, '{}') AS settings,
       l.label,
       r.rolname = current_user AS is_operator,
       pg_has_role(r.oid, 'USAGE') AS inherits,
       pg_has_role(r.oid, 'SET') AS can_set,
       pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION') AS admin
FROM pg_roles r
LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
LEFT JOIN pg_shseclabel l ON l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass AND l.provider = 'databricks_auth'
