(VALUES ('', 0::oid, 0::bigint, '', 0::oid)) AS nothing(class, objid, part, privilege, g) WHERE false
