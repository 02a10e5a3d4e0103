(VALUES ('', 0::oid, 0::bigint, '', '{}'::oid[])) AS nothing(class, objid, part, privilege, grantees) WHERE false
