-- One number that changes whenever a privilege, an object or a membership may have changed: the versions of all rows that
-- the comparison reads. xmin of a committed row never comes back with another content.
-- ANALYZE and VACUUM change rows in place, which leaves xmin as it is.
SELECT bit_xor(h) AS fingerprint
FROM (
    SELECT hash_record_extended(ROW(oid, xmin), 1) AS h FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
    UNION ALL SELECT hash_record_extended(ROW(attrelid, attnum, xmin), 2) FROM pg_attribute
              WHERE attacl IS NOT NULL OR (%(columns)s AND attnum > 0)
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 3) FROM pg_namespace
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 4) FROM pg_proc
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 5) FROM pg_type WHERE typtype <> 'c'
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 6) FROM pg_database
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 7) FROM pg_language
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 8) FROM pg_foreign_data_wrapper
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 9) FROM pg_foreign_server
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 10) FROM pg_largeobject_metadata
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 11) FROM pg_tablespace
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 12) FROM pg_parameter_acl
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 13) FROM pg_default_acl
    UNION ALL SELECT hash_record_extended(ROW(roleid, member, grantor, xmin), 14) FROM pg_auth_members
    -- Which sequences tables own, and what views can be written through.
    UNION ALL SELECT hash_record_extended(ROW(objid, refobjid, xmin), 15) FROM pg_depend
              WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'a' AND refobjsubid > 0
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 16) FROM pg_rewrite
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 17) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT hash_record_extended(ROW(ctid, xmin), 18) FROM lakebase_operator.held
    UNION ALL SELECT hash_record_extended(ROW(ctid, xmin), 19) FROM lakebase_operator.snapshots
) AS versions
