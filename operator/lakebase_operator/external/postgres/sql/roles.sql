-- All roles of the server, what the operator may do with each, and which Databricks identity stands behind it.
-- The columns are in the order of ``_role`` (external/postgres/roles.py).
WITH setting AS MATERIALIZED (
    SELECT setrole, setdatabase, setconfig FROM pg_db_role_setting WHERE setrole <> 0
),
-- Whoever grants a role needs ADMIN option itself or through roles whose privileges it has. pg_has_role counts any membership,
-- as ALTER ROLE does. A superuser is granted by superusers only.
administered AS MATERIALIZED (
    SELECT DISTINCT roleid FROM pg_auth_members WHERE admin_option AND pg_has_role(member, 'USAGE')
)
SELECT r.oid, r.rolname, r.rolsuper, r.rolcanlogin, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls, r.rolinherit,
       r.rolconnlimit, r.rolvaliduntil::text,
       s.setconfig AS settings,
       upper(substring(l.label FROM '\ytype=(\w+)')) AS identity,
       c.description AS comment,
       d.settings AS database_settings,
       pg_has_role(r.oid, 'USAGE WITH ADMIN OPTION') AS alterable,
       pg_has_role(r.oid, 'USAGE') AS inherits,
       pg_has_role(r.oid, 'SET') AS can_set,
       r.oid IN (SELECT roleid FROM administered) AND NOT r.rolsuper
           OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS admin,
       r.rolname = current_user AS is_operator
FROM pg_roles r
LEFT JOIN setting s ON s.setrole = r.oid AND s.setdatabase = 0
LEFT JOIN (SELECT setrole, jsonb_object_agg(setdatabase, to_jsonb(setconfig)) AS settings
           FROM setting WHERE setdatabase <> 0 GROUP BY setrole) AS d ON d.setrole = r.oid
LEFT JOIN pg_shdescription c ON c.objoid = r.oid AND c.classoid = 'pg_authid'::regclass
LEFT JOIN pg_shseclabel l ON l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass AND l.provider = 'databricks_auth'
