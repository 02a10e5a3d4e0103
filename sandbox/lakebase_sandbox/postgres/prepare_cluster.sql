-- The roles that every Lakebase compute has. Run once, as the bootstrap superuser cloud_admin.

CREATE ROLE databricks_superuser NOLOGIN CREATEDB CREATEROLE BYPASSRLS
    IN ROLE pg_read_all_data, pg_write_all_data;
GRANT pg_monitor, pg_signal_backend TO databricks_superuser WITH ADMIN OPTION;
GRANT pg_create_subscription TO databricks_superuser;

CREATE ROLE databricks_control_plane LOGIN SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS;
CREATE ROLE databricks_monitor LOGIN IN ROLE pg_monitor;
CREATE ROLE databricks_gateway LOGIN;
CREATE ROLE databricks_replicator LOGIN REPLICATION;
