-- The ledger: which privileges are the operator's doing, and what it has executed. Owned by the operator's role.
CREATE SCHEMA IF NOT EXISTS lakebase_operator;

-- database: where this was written. In a copy of the database, what it says of databases is about the original.
CREATE TABLE IF NOT EXISTS lakebase_operator.version (number int NOT NULL, database oid NOT NULL);
INSERT INTO lakebase_operator.version
SELECT 1, oid FROM pg_database WHERE datname = current_database() AND NOT EXISTS (SELECT FROM lakebase_operator.version);

-- One row per object, privilege and grantor: grantees in an array, 20 times smaller than a row each. An object is
-- (class, objid, part); see rules.sql for these and for the marks that a privilege may carry.
CREATE TABLE IF NOT EXISTS lakebase_operator.held (
    connection text   NOT NULL,
    class      text   NOT NULL,
    objid      oid    NOT NULL,
    part       bigint NOT NULL DEFAULT 0,
    privilege  text   NOT NULL,
    grantor    oid    NOT NULL,
    grantees   oid[]  NOT NULL,
    PRIMARY KEY (connection, class, objid, part, privilege, grantor)
);

-- Roles that a declaration has made or taken over (in the home database only).
CREATE TABLE IF NOT EXISTS lakebase_operator.roles (
    connection  text    NOT NULL,
    role        oid     NOT NULL,
    resource    text    NOT NULL,
    created     boolean NOT NULL,
    memberships oid[]   NOT NULL DEFAULT '{}',
    settings    text[]  NOT NULL DEFAULT '{}',
    PRIMARY KEY (connection, role)
);
-- database_settings: OID of the database -> names. commented: the role's comment is declared.
ALTER TABLE lakebase_operator.roles ADD COLUMN IF NOT EXISTS database_settings jsonb NOT NULL DEFAULT '{}';
ALTER TABLE lakebase_operator.roles ADD COLUMN IF NOT EXISTS commented boolean NOT NULL DEFAULT false;

-- superuser: the membership in databricks_superuser was given through the Databricks API.
ALTER TABLE lakebase_operator.roles ADD COLUMN IF NOT EXISTS superuser boolean NOT NULL DEFAULT false;

-- Platform schemas that the operator made.
CREATE TABLE IF NOT EXISTS lakebase_operator.platform_schemas (
    connection text NOT NULL,
    schema     oid  NOT NULL,
    resource   text NOT NULL,
    PRIMARY KEY (connection, schema)
);

-- Passwords that were set (in the home database only): by a salted digest. resource: without its generation.
CREATE TABLE IF NOT EXISTS lakebase_operator.passwords (
    connection text NOT NULL,
    role       oid  NOT NULL,
    resource   text NOT NULL,
    revision   text NOT NULL,
    PRIMARY KEY (connection, role)
);

-- When roles were last seen logged in (in the home database only). Written with a report, and only where it has changed.
CREATE TABLE IF NOT EXISTS lakebase_operator.logins (
    connection text        NOT NULL,
    role       oid         NOT NULL,
    last_seen  timestamptz NOT NULL,
    logins     bigint      NOT NULL,
    PRIMARY KEY (connection, role)
);

-- Objects that an AccessGrant with newObjects: false found first.
CREATE TABLE IF NOT EXISTS lakebase_operator.snapshots (
    connection text  NOT NULL,
    snapshot   text  NOT NULL,
    class      text  NOT NULL,
    objects    oid[] NOT NULL,
    PRIMARY KEY (connection, snapshot, class)
);

-- Append-only.
CREATE TABLE IF NOT EXISTS lakebase_operator.change_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    connection text NOT NULL,
    resources  text NOT NULL,
    statement  text NOT NULL,
    result     text NOT NULL
);

-- home: the OIDs of this schema and of "held" when this was written. A copy of the database keeps all OIDs, pg_upgrade those of tables,
-- pg_restore none: where they are others by now, all that is noted means something else, or nothing, and is forgotten.
ALTER TABLE lakebase_operator.version ADD COLUMN IF NOT EXISTS home text;
WITH here AS (
    SELECT concat_ws('/', 'lakebase_operator'::regnamespace::oid, 'lakebase_operator.held'::regclass::oid) AS place
),
foreign_ledger AS (SELECT FROM lakebase_operator.version, here WHERE home <> place),
held AS (DELETE FROM lakebase_operator.held WHERE EXISTS (SELECT FROM foreign_ledger)),
roles AS (DELETE FROM lakebase_operator.roles WHERE EXISTS (SELECT FROM foreign_ledger)),
platform_schemas AS (DELETE FROM lakebase_operator.platform_schemas WHERE EXISTS (SELECT FROM foreign_ledger)),
passwords AS (DELETE FROM lakebase_operator.passwords WHERE EXISTS (SELECT FROM foreign_ledger)),
logins AS (DELETE FROM lakebase_operator.logins WHERE EXISTS (SELECT FROM foreign_ledger)),
snapshots AS (DELETE FROM lakebase_operator.snapshots WHERE EXISTS (SELECT FROM foreign_ledger))
UPDATE lakebase_operator.version SET home = place FROM here WHERE home IS DISTINCT FROM place;
