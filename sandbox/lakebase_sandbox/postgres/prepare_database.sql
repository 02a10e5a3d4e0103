-- What every Lakebase database has that was made through the API (one made by plain CREATE DATABASE does not).
-- Run once per database, as the bootstrap superuser cloud_admin.
--
-- The setting lakebase.superuser_grants chooses between two accounts of what databricks_superuser may grant on:
--   on   Databricks' documentation: all privileges, with grant option, on whatever is made
--   off  the published engine: read and write everything, but grant nothing on others' objects

CREATE SCHEMA __db_system AUTHORIZATION databricks_control_plane;

DO $$
DECLARE
    db text := current_database();
    db_oid oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    reader text := format('databricks_reader_%s', db_oid);
    writer text := format('databricks_writer_%s', db_oid);
    grant_option text := CASE WHEN current_setting('lakebase.superuser_grants')::boolean THEN 'WITH GRANT OPTION' ELSE '' END;
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN', reader);
    EXECUTE format('CREATE ROLE %I LOGIN', writer);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', db, reader);
    EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO %I', db, writer);
    EXECUTE format('GRANT ALL ON DATABASE %I TO databricks_superuser %s', db, grant_option);
    EXECUTE format('GRANT ALL ON SCHEMA public TO databricks_superuser %s', grant_option);
    EXECUTE format('GRANT ALL ON SCHEMA public TO %I', writer);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO databricks_superuser %s', grant_option);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO databricks_superuser %s', grant_option);
    -- The extension belongs to the writer role; being trusted, its functions still belong to cloud_admin.
    EXECUTE format('SET LOCAL ROLE %I', writer);
    CREATE EXTENSION databricks_auth SCHEMA public;
    RESET ROLE;
END;
$$;

-- Grants on new objects that nobody asked for: databricks_superuser and databricks_gateway get theirs from the owner,
-- the reader and writer roles from databricks_superuser, which therefore owns this function where it may grant.
CREATE FUNCTION __db_system.share_with_readers(object_type text, object_identity text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    db_oid oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    reader text := format('databricks_reader_%s', db_oid);
    writer text := format('databricks_writer_%s', db_oid);
BEGIN
    CASE object_type
        WHEN 'schema' THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', object_identity, reader);
            EXECUTE format('GRANT CREATE, USAGE ON SCHEMA %s TO %I', object_identity, writer);
        WHEN 'sequence' THEN
            EXECUTE format('GRANT SELECT ON SEQUENCE %s TO %I', object_identity, reader);
        ELSE
            EXECUTE format('GRANT SELECT ON TABLE %s TO %I', object_identity, reader);
    END CASE;
END;
$$;

CREATE FUNCTION __db_system.share_new_objects() RETURNS event_trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made record;
    class text;
    superuser_grants boolean := current_setting('lakebase.superuser_grants')::boolean;
BEGIN
    FOR made IN
        SELECT DISTINCT c.object_type, c.object_identity
        FROM pg_event_trigger_ddl_commands() AS c
        WHERE c.object_type IN ('schema', 'sequence', 'table', 'view', 'materialized view', 'foreign table')
          AND c.command_tag LIKE ANY (ARRAY['CREATE%', 'SELECT INTO'])
          AND NOT c.in_extension
          AND c.schema_name IS DISTINCT FROM 'pg_temp'
    LOOP
        class := CASE made.object_type WHEN 'schema' THEN 'SCHEMA' WHEN 'sequence' THEN 'SEQUENCE' ELSE 'TABLE' END;
        IF superuser_grants THEN
            EXECUTE format('GRANT ALL ON %s %s TO databricks_superuser WITH GRANT OPTION', class, made.object_identity);
        END IF;
        EXECUTE format('GRANT %s ON %s %s TO databricks_gateway',
            CASE made.object_type WHEN 'schema' THEN 'USAGE' ELSE 'SELECT' END, class, made.object_identity);
        PERFORM __db_system.share_with_readers(made.object_type, made.object_identity);
    END LOOP;
END;
$$;

DO $$
BEGIN
    IF current_setting('lakebase.superuser_grants')::boolean THEN
        ALTER FUNCTION __db_system.share_with_readers OWNER TO databricks_superuser;
    END IF;
END;
$$;

CREATE EVENT TRIGGER on_create_schema ON ddl_command_end
    WHEN TAG IN ('CREATE SCHEMA')
    EXECUTE FUNCTION __db_system.share_new_objects();
CREATE EVENT TRIGGER on_create_sequence ON ddl_command_end
    WHEN TAG IN ('CREATE SEQUENCE')
    EXECUTE FUNCTION __db_system.share_new_objects();
CREATE EVENT TRIGGER on_create_table_or_view ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE VIEW', 'CREATE MATERIALIZED VIEW',
                 'CREATE FOREIGN TABLE')
    EXECUTE FUNCTION __db_system.share_new_objects();
