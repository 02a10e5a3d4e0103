-- What is in a schema and is owned by none of these roles, of whatever class: the first, with its owner. What belongs to an extension
-- goes with that; what has no owner is a superuser's.
--
--   %(schema)s  oid
--   %(owners)s  oid[]
SELECT format('%%s %%s of "%%s"', i.type, i.identity, pg_get_userbyid(COALESCE(s.refobjid, 10))) AS name
FROM pg_depend d
-- Nothing is noted of the bootstrap superuser (10), who cannot be dropped.
LEFT JOIN pg_shdepend s ON s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND (s.classid, s.objid, s.objsubid) = (d.classid, d.objid, 0)
                       AND s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o'
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS i
WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = %(schema)s AND d.deptype = 'n'
  AND COALESCE(s.refobjid, 10) <> ALL (%(owners)s::oid[])
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE (e.classid, e.objid) = (d.classid, d.objid) AND e.deptype = 'e')
ORDER BY 1 LIMIT 1
