-- A stand-in for Lakebase's extension databricks_auth: the same names, results and errors, none of its code.
-- The sandbox tells it what it needs to know through two things in the data directory:
--   lakebase/identities.json      the workspace's identities: [{"name", "type", "id"}]
--   lakebase/sessions/<pid>       when the OAuth credential of that session expires, in seconds since 1970
-- A session with a SCRAM login is a native one. A session on the Unix socket without a file is a direct
-- connection of a test and counts as a fresh OAuth login.

CREATE FUNCTION databricks_create_role(identity_name text, identity_type text) RETURNS text
    LANGUAGE plpgsql STRICT VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller record;
    kind text := lower(identity_type);
    expires_at numeric;
    scim_id text;
BEGIN
    SELECT r.rolsuper, r.rolcreaterole INTO caller FROM pg_roles AS r WHERE r.rolname = session_user;
    IF NOT caller.rolsuper THEN
        expires_at := pg_read_file(format('lakebase/sessions/%s', pg_backend_pid()), true)::numeric;
        IF NOT caller.rolcreaterole
            OR NOT has_database_privilege(session_user, current_database(), 'CREATE')
            OR system_user IS NOT NULL
            OR expires_at < extract(epoch FROM clock_timestamp())
        THEN
            RAISE EXCEPTION '[Databricks Auth] Permission denied to create role.'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END IF;

    IF kind NOT IN ('user', 'service_principal', 'group') THEN
        RAISE EXCEPTION '[Databricks Auth] Invalid identity type: %.', identity_type
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT i ->> 'id' INTO scim_id
        FROM jsonb_array_elements(pg_read_file('lakebase/identities.json')::jsonb) AS i
        WHERE i ->> 'name' = identity_name AND i ->> 'type' = kind;
    IF scim_id IS NULL THEN
        RAISE EXCEPTION '[Databricks Auth] Identity not found.'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    EXECUTE format('CREATE ROLE %I LOGIN INHERIT', identity_name);
    INSERT INTO pg_shseclabel (objoid, classoid, provider, label)
        SELECT r.oid, 'pg_authid'::regclass, 'databricks_auth', format('id=%s,type=%s', scim_id, kind)
        FROM pg_roles AS r WHERE r.rolname = identity_name;
    -- What PostgreSQL 16 gives the creator of a role; this function runs as somebody else.
    IF NOT caller.rolsuper THEN
        EXECUTE format('GRANT %I TO %I WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', identity_name, session_user);
    END IF;
    RETURN identity_name;
END;
$$;

CREATE VIEW databricks_list_roles AS
    SELECT r.rolname AS role_name, substring(l.label FROM 'type=(\w+)') AS identity_type
    FROM pg_catalog.pg_shseclabel AS l
    JOIN pg_catalog.pg_roles AS r ON r.oid = l.objoid AND l.classoid = 'pg_catalog.pg_authid'::regclass
    WHERE l.provider = 'databricks_auth';
GRANT SELECT ON databricks_list_roles TO PUBLIC;
