-- What an application of the marketing department has in its database. Run as the role that owns it, which is an
-- ordinary one: neither a superuser nor known to the operator.

DROP SCHEMA IF EXISTS "marketing-data", "research-data", "cs-data" CASCADE;
CREATE SCHEMA "marketing-data";
CREATE SCHEMA "research-data";
CREATE SCHEMA "cs-data";

-- A serial column: INSERT needs its sequence too.
CREATE TABLE "marketing-data".campaigns (
    id serial PRIMARY KEY,
    name text NOT NULL,
    channel text NOT NULL,
    budget numeric(10, 2) NOT NULL,
    active boolean NOT NULL DEFAULT true
);
INSERT INTO "marketing-data".campaigns (name, channel, budget) VALUES
    ('Spring', 'mail', 12000), ('Summer', 'search', 30000), ('Autumn', 'social', 18500);

-- A partitioned table: access goes through the parent.
CREATE TABLE "marketing-data".campaign_results (
    campaign_id int NOT NULL,
    day date NOT NULL,
    clicks int NOT NULL,
    PRIMARY KEY (campaign_id, day)
) PARTITION BY RANGE (day);
CREATE TABLE "marketing-data".results_2025 PARTITION OF "marketing-data".campaign_results
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE "marketing-data".results_2026 PARTITION OF "marketing-data".campaign_results
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO "marketing-data".campaign_results VALUES (1, '2025-04-01', 310), (1, '2026-04-01', 420), (2, '2026-07-01', 87);

CREATE VIEW "marketing-data".active_campaigns AS
    SELECT id, name FROM "marketing-data".campaigns WHERE active;
CREATE MATERIALIZED VIEW "marketing-data".spend_by_channel AS
    SELECT channel, sum(budget) AS budget FROM "marketing-data".campaigns GROUP BY channel;

CREATE TABLE "marketing-data".clicks_raw (at timestamptz NOT NULL, address inet NOT NULL);
CREATE TABLE "marketing-data".campaign_contacts_raw (campaign_id int NOT NULL, email text NOT NULL);

CREATE TABLE "research-data".study_loyalty (id serial PRIMARY KEY, finding text NOT NULL);
INSERT INTO "research-data".study_loyalty (finding) VALUES ('Two purchases make a customer');
CREATE TABLE "research-data".study_pricing_draft (id serial PRIMARY KEY, finding text NOT NULL);

CREATE TABLE "cs-data".customers (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE "cs-data".tickets (id serial PRIMARY KEY, customer_id int NOT NULL, subject text NOT NULL);
INSERT INTO "cs-data".customers (name) VALUES ('Northwind'), ('Contoso');
INSERT INTO "cs-data".tickets (customer_id, subject) VALUES (1, 'Login fails'), (2, 'Invoice is missing');
