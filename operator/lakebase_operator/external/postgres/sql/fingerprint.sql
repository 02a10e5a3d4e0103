-- One number that changes whenever a privilege, an object or a membership may have changed: the versions of all rows that
-- the comparison reads. xmin of a committed row never comes back with another content.
-- ANALYZE and VACUUM change rows in place, which leaves xmin as it is.
WITH temporary AS MATERIALIZED (
    SELECT oid FROM pg_class WHERE relpersistence = 't'
)
SELECT bit_xor(h) AS fingerprint
FROM (
    -- 'c': composite types, whose rows in pg_type look like those that every table has.
    SELECT hash_record_extended(ROW(oid, xmin), 1) AS h FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND relpersistence <> 't'
    UNION ALL SELECT hash_record_extended(ROW(attrelid, attnum, xmin), 2) FROM pg_attribute
              WHERE attacl IS NOT NULL
                 OR (%(columns)s AND attnum > 0 AND attrelid NOT IN (SELECT oid FROM temporary))
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 3) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 4) FROM pg_proc
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 5) FROM pg_type
              WHERE (typtype <> 'c' OR typacl IS NOT NULL) AND (typcategory <> 'A' OR typtype = 'd')
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 6) FROM pg_database
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 7) FROM pg_language
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 8) FROM pg_foreign_data_wrapper
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 9) FROM pg_foreign_server
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 10) FROM pg_largeobject_metadata
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 11) FROM pg_tablespace
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 12) FROM pg_parameter_acl
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 13) FROM pg_default_acl
    UNION ALL SELECT hash_record_extended(ROW(roleid, member, grantor, xmin), 14) FROM pg_auth_members
    -- Which sequences tables own, what belongs to extensions, and what views and foreign tables can be written through.
    UNION ALL SELECT hash_record_extended(ROW(objid, refobjid, xmin), 15) FROM pg_depend
              WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype = 'a' AND refobjsubid > 0
                AND objid IN (SELECT oid FROM pg_class WHERE relkind = 'S' AND relpersistence <> 't')
    UNION ALL SELECT hash_record_extended(ROW(classid, objid, xmin), 20) FROM pg_depend
              WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    UNION ALL SELECT hash_record_extended(ROW(classoid, objoid, objsubid, xmin), 21) FROM pg_init_privs
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 16) FROM pg_rewrite
              WHERE ev_class NOT IN (SELECT oid FROM temporary)
    UNION ALL SELECT hash_record_extended(ROW(oid, xmin), 17) FROM pg_trigger
              WHERE NOT tgisinternal AND tgrelid NOT IN (SELECT oid FROM temporary)
    UNION ALL SELECT hash_record_extended(ROW(ftrelid, xmin), 22) FROM pg_foreign_table
    UNION ALL SELECT hash_record_extended(ROW(ctid, xmin), 18) FROM lakebase_operator.held
    UNION ALL SELECT hash_record_extended(ROW(ctid, xmin), 19) FROM lakebase_operator.snapshots
) AS versions
