-- Shared by compare.sql and record.sql: what the rules want (want, forbid) and what the ACLs hold (entry).
--
--   %(rules)s         jsonb array of selectors (domain/desired.py)
--   %(connection)s    whose ledger
--   %(home)s, %(others)s
--                     Each database of the connection answers for CONNECT on itself; the home also for those that are not
--                     the connection's, and for what else the server's databases share. others: its other databases
--   %(focus)s         oid[]: look only at what these grantees hold; NULL for all
--   %(unmanaged)s     jsonb: null, or {schemas: [], roles: []}: look for what nobody declares, where, and of whom
--   %(platform)s      text[]: schemas that are an application's own: patterns and searches leave them out
--   %(keep_drifted)s  what somebody took away by hand stays in the ledger, so that it is still known as such
--   %(opened)s        jsonb array of what PUBLIC was given in this very transaction
--
-- An object is (class, oid, part): part is the number of a column, the schema of default privileges, the hash of a
-- parameter's name, else 0. A privilege with an asterisk is its grant option, as in the text of an ACL.
-- What stands between "if" and "end" is left out where nothing needs it (queries.py): planning it all takes as long as running it.
-- Grantees are handled as sorted arrays per object and privilege, never row by row: 300,000 single privileges are 1,000 rows.
rule AS MATERIALIZED (
    SELECT r.id, r.class, r.schema, r.names, r.matching, r.excluding, r.columns, r.access, r.privileges, r.option, r.absent,
           r.grantees, s.objects AS only
    FROM jsonb_to_recordset(%(rules)s::jsonb) AS r(
        id int, class text, schema text, names text[], matching text[], excluding text[], columns text[],
        access text, privileges text[], option bool, absent bool, snapshot text, grantees oid[])
    LEFT JOIN lakebase_operator.snapshots s
      ON s.connection = %(connection)s AND s.snapshot = r.snapshot AND s.class = r.class
),
own_database AS MATERIALIZED (
    SELECT oid FROM pg_database WHERE datname = current_database()
),
-- Roles whose privileges the operator has.
my_role AS MATERIALIZED (
    SELECT oid FROM pg_roles WHERE pg_has_role(oid, 'USAGE')
),
-- Rows of the ledger. A privilege with a minus sign is one whose absence was declared, and reached.
ledger_row AS MATERIALIZED (
    SELECT class, objid AS oid, part, privilege, grantor,
           CASE WHEN %(focus)s::oid[] IS NULL THEN grantees
                ELSE ARRAY(SELECT unnest(grantees) INTERSECT SELECT unnest(%(focus)s::oid[]) ORDER BY 1) END AS grantees
    FROM lakebase_operator.held
    WHERE connection = %(connection)s AND (%(focus)s::oid[] IS NULL OR grantees && %(focus)s::oid[])
      AND (class NOT IN ('DATABASE', 'PARAMETER', 'TABLESPACE')
           OR EXISTS (SELECT FROM lakebase_operator.version JOIN own_database ON database = oid))
),
ledger AS MATERIALIZED (
    SELECT * FROM ledger_row WHERE privilege NOT LIKE '-%%'
),
reached AS MATERIALIZED (
    SELECT class, oid, part, substr(privilege, 2) AS privilege, grantees FROM ledger_row WHERE privilege LIKE '-%%'
),
scope AS MATERIALIZED (
    SELECT u.schemas, u.roles FROM jsonb_to_record(%(unmanaged)s::jsonb) AS u(schemas text[], roles text[])
    WHERE %(unmanaged)s::jsonb <> 'null'
),
place AS MATERIALIZED (
    SELECT n.oid, n.nspname AS name, r.schema IS NOT NULL AS wanted, s.wanted IS NOT NULL AS searched
    FROM pg_namespace n
    LEFT JOIN (SELECT DISTINCT schema FROM rule) AS r ON r.schema = n.nspname
    LEFT JOIN LATERAL (
        SELECT true AS wanted FROM scope
        WHERE n.nspname !~ '@SYSTEM_SCHEMA@' AND n.nspname <> ALL (%(platform)s::text[])
          AND (scope.schemas IS NULL OR n.nspname = ANY (scope.schemas))
    ) AS s ON true
),
extension_member AS MATERIALIZED (
    SELECT classid, objid FROM pg_depend
    WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
),
-- Objects that the rules can speak of, that the ledger speaks of, or that are searched for what nobody declares.
-- "patterned": a pattern may match it. Partitions are reached through their parent, and selected only by their exact names.
candidate AS MATERIALIZED (
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS class, c.oid, 0::bigint AS part, p.name AS schema,
           c.relname::text AS name, NULL::text AS detail, c.relkind AS kind,
           NOT c.relispartition AND NOT (p.name = 'public' AND c.relname = 'health_check') AND e.objid IS NULL AS patterned,
           p.searched AND NOT (p.name = 'public' AND c.relname = 'health_check') AS searched
    FROM pg_class c
    JOIN place p ON p.oid = c.relnamespace
    LEFT JOIN extension_member e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND (p.wanted OR p.searched
           OR c.oid IN (SELECT oid FROM ledger_row WHERE class IN ('TABLE', 'COLUMN', 'SEQUENCE')))
    -- if ROUTINE
    UNION ALL
    SELECT 'ROUTINE', f.oid, 0, p.name, f.proname,
           (SELECT COALESCE(string_agg(format_type(t, NULL), ',' ORDER BY i), '')
            FROM unnest(f.proargtypes) WITH ORDINALITY AS a(t, i)),
           f.prokind, e.objid IS NULL, p.searched
    FROM pg_proc f
    JOIN place p ON p.oid = f.pronamespace
    LEFT JOIN extension_member e ON e.classid = 'pg_proc'::regclass AND e.objid = f.oid
    WHERE p.wanted OR p.searched OR f.oid IN (SELECT oid FROM ledger_row WHERE class = 'ROUTINE')
    -- end
    -- if TYPE
    UNION ALL
    -- Arrays and multiranges have no privileges of their own, but domains over arrays do; a table's row type is not a type of its own.
    SELECT 'TYPE', t.oid, 0, p.name, t.typname, NULL, t.typtype, e.objid IS NULL, p.searched
    FROM pg_type t
    JOIN place p ON p.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    LEFT JOIN extension_member e ON e.classid = 'pg_type'::regclass AND e.objid = t.oid
    WHERE (t.typcategory <> 'A' OR t.typtype = 'd') AND t.typtype IN ('b', 'c', 'd', 'e', 'r')
      AND (t.typrelid = 0 OR c.relkind = 'c')
      AND (p.wanted OR p.searched OR t.oid IN (SELECT oid FROM ledger_row WHERE class = 'TYPE'))
    -- end
    UNION ALL
    SELECT 'SCHEMA', oid, 0, '', nspname, NULL, NULL,
           nspname !~ '@SYSTEM_SCHEMA@' AND nspname <> ALL (%(platform)s::text[]),
           oid IN (SELECT oid FROM place WHERE searched)
    FROM pg_namespace
    UNION ALL
    SELECT 'DATABASE', oid, 0, '', datname, NULL, NULL, NOT datistemplate AND datname <> 'postgres',
           -- Other databases may be another connection's, whose ledger is there.
           datname = current_database() AND NOT datistemplate AND datname <> 'postgres'
           AND EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_database
    WHERE CASE WHEN %(home)s THEN datname <> ALL (%(others)s::text[]) ELSE datname = current_database() END
    -- if LANGUAGE
    UNION ALL
    SELECT 'LANGUAGE', oid, 0, '', lanname, NULL, NULL, lanpltrusted, EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_language
    -- end
    -- if FOREIGN DATA WRAPPER
    UNION ALL
    SELECT 'FOREIGN DATA WRAPPER', w.oid, 0, '', w.fdwname, NULL, NULL, e.objid IS NULL,
           EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_foreign_data_wrapper w
    LEFT JOIN extension_member e ON e.classid = 'pg_foreign_data_wrapper'::regclass AND e.objid = w.oid
    -- end
    -- if FOREIGN SERVER
    UNION ALL
    SELECT 'FOREIGN SERVER', oid, 0, '', srvname, NULL, NULL, true, EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_foreign_server
    -- end
    -- if LARGE OBJECT
    UNION ALL
    SELECT 'LARGE OBJECT', oid, 0, '', oid::text, NULL, NULL, true,
           lomacl IS NOT NULL AND EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_largeobject_metadata
    WHERE oid::text IN (SELECT unnest(names) FROM rule WHERE class = 'LARGE OBJECT')
       OR oid IN (SELECT oid FROM ledger_row WHERE class = 'LARGE OBJECT')
       OR (lomacl IS NOT NULL AND EXISTS (SELECT FROM scope WHERE schemas IS NULL))
    -- end
    -- if TABLESPACE
    UNION ALL
    SELECT 'TABLESPACE', oid, 0, '', spcname, NULL, NULL, spcname !~ '^pg_', EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM pg_tablespace WHERE %(home)s
    -- end
    -- if PARAMETER
    UNION ALL
    -- A parameter has a row only once something is granted on it; any name can be.
    SELECT 'PARAMETER', 0, hashtextextended(s.name, 0), '', s.name, NULL, NULL, true,
           EXISTS (SELECT FROM scope WHERE schemas IS NULL)
    FROM (SELECT parname AS name FROM pg_parameter_acl
          UNION SELECT unnest(names) FROM rule WHERE class = 'PARAMETER'
          UNION SELECT lower(name) FROM pg_settings
                WHERE EXISTS (SELECT FROM rule WHERE class = 'PARAMETER' AND matching <> '{}')) AS s
    WHERE %(home)s
    -- end
),
-- A routine is named with or without the types of its arguments.
alias AS MATERIALIZED (
    SELECT class, schema, name, oid, part FROM candidate
    -- if ROUTINE
    UNION ALL
    SELECT class, schema, name || '(' || detail || ')', oid, part FROM candidate WHERE class = 'ROUTINE'
    -- end
),
-- if DEFAULT
-- Who may create something in a schema: its owner, owners of what is in it, and who was given CREATE.
creator AS MATERIALIZED (
    SELECT r.id AS rule, x.role
    FROM rule r
    JOIN pg_namespace n ON n.nspname = r.schema
    CROSS JOIN LATERAL (
        SELECT CASE WHEN o.rolname = 'pg_database_owner' THEN d.datdba ELSE n.nspowner END AS role
        FROM pg_roles o, pg_database d WHERE o.oid = n.nspowner AND d.datname = current_database()
        UNION SELECT relowner FROM pg_class WHERE relnamespace = n.oid
        UNION SELECT proowner FROM pg_proc WHERE pronamespace = n.oid
        UNION SELECT typowner FROM pg_type WHERE typnamespace = n.oid
        UNION SELECT i.grantee FROM aclexplode(n.nspacl) AS i WHERE i.privilege_type = 'CREATE' AND i.grantee <> 0
    ) AS x
    JOIN pg_roles o ON o.oid = x.role
    WHERE r.class LIKE 'DEFAULT %%' AND r.names = '{}'
      AND o.rolname !~* '@SYSTEM_ROLE@'
    UNION ALL
    SELECT r.id, o.oid FROM rule r JOIN pg_roles o ON o.rolname = ANY (r.names) WHERE r.class LIKE 'DEFAULT %%'
),
-- end
-- Both sides as tables, so that they are joined by name: a rule for each of many tables is nothing unusual.
named_exactly AS MATERIALIZED (
    SELECT DISTINCT n.rule, a.class, a.oid, a.part
    FROM (SELECT id AS rule, class, schema, unnest(names) AS name FROM rule) AS n JOIN alias a USING (class, schema, name)
),
matched AS MATERIALIZED (
    SELECT r.id AS rule, c.class, c.oid, c.part, c.schema, c.name, c.kind, true AS named
    FROM named_exactly n JOIN candidate c USING (class, oid, part) JOIN rule r ON r.id = n.rule
    WHERE NOT c.name LIKE ANY (r.excluding) AND (r.only IS NULL OR c.oid = ANY (r.only))
    UNION ALL
    SELECT r.id, c.class, c.oid, c.part, c.schema, c.name, c.kind, false
    FROM rule r JOIN candidate c ON c.class = r.class AND c.schema = r.schema
    WHERE r.matching <> '{}' AND c.patterned AND c.name LIKE ANY (r.matching)
      AND NOT EXISTS (SELECT FROM named_exactly n WHERE (n.rule, n.class, n.oid, n.part) = (r.id, c.class, c.oid, c.part))
      AND NOT c.name LIKE ANY (r.excluding) AND (r.only IS NULL OR c.oid = ANY (r.only))
    -- if DEFAULT
    UNION ALL
    SELECT r.id, r.class, k.role, COALESCE(n.oid, 0)::bigint, r.schema, o.rolname, NULL, true
    FROM creator k JOIN rule r ON r.id = k.rule JOIN pg_roles o ON o.oid = k.role
    LEFT JOIN pg_namespace n ON n.nspname = r.schema
    WHERE r.schema = '' OR n.oid IS NOT NULL
    -- end
),
matched_place AS MATERIALIZED (
    SELECT DISTINCT rule, class, schema FROM matched
),
-- What each rule wants on each object, or wants to be absent; without grant options.
plain_item AS MATERIALIZED (
    SELECT m.rule, m.class, m.oid, m.part, r.privilege, false AS implied
    FROM matched m
    JOIN (SELECT id AS rule, access, unnest(privileges) AS privilege FROM rule WHERE columns = '{}') AS r USING (rule)
    WHERE m.class <> 'TABLE' OR r.access IS NULL OR r.privilege = 'SELECT' OR m.kind IN ('r', 'p')
    -- if COLUMN
    UNION ALL
    SELECT m.rule, 'COLUMN', m.oid, a.attnum, p.privilege, false
    FROM matched m JOIN rule r ON r.id = m.rule
    JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (r.columns)
    CROSS JOIN LATERAL unnest(r.privileges) AS p(privilege)
    WHERE r.columns <> '{}' AND m.class = 'TABLE'
      AND (r.access IS NULL OR p.privilege = 'SELECT' OR m.kind IN ('r', 'p'))
    -- end
    -- if writing
    UNION ALL
    -- Views and foreign tables: an access level gives writing only where it is possible, and named on purpose.
    SELECT m.rule, CASE WHEN a.attnum IS NULL THEN 'TABLE' ELSE 'COLUMN' END, m.oid, COALESCE(a.attnum, 0), p.privilege, false
    FROM matched m JOIN rule r ON r.id = m.rule
    JOIN (VALUES ('INSERT', 8), ('UPDATE', 4), ('DELETE', 16)) AS p(privilege, bit) ON p.privilege = ANY (r.privileges)
    LEFT JOIN pg_attribute a ON r.columns <> '{}' AND a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped
                            AND a.attname = ANY (r.columns)
    WHERE r.access IS NOT NULL AND m.class = 'TABLE' AND m.kind IN ('v', 'f') AND m.named
      AND (r.columns = '{}' OR a.attnum IS NOT NULL)
      AND CASE WHEN EXISTS (SELECT FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver
                            JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
                            WHERE t.ftrelid = m.oid AND w.fdwhandler = 0)
               THEN false  -- without a handler it cannot even be asked
               -- PostgreSQL opens it to see, so whoever holds it (an ALTER VIEW in a long transaction) would hold up everything.
               WHEN m.oid IN (SELECT relation FROM pg_locks
                              WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
                                AND database = (SELECT oid FROM own_database))
               THEN true
               ELSE pg_relation_is_updatable(m.oid, true) & p.bit <> 0 END
    UNION ALL
    -- INSERT into a serial column needs its sequence; an identity column does not (deptype 'i').
    SELECT m.rule, 'SEQUENCE', d.objid, 0, p.privilege, false
    FROM matched m JOIN rule r ON r.id = m.rule
    JOIN (VALUES ('Write', 'USAGE'), ('Modify', 'USAGE'), ('Modify', 'SELECT')) AS p(access, privilege) ON p.access = r.access
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                    AND d.refobjid = m.oid AND d.refobjsubid > 0 AND d.deptype = 'a'
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE m.class = 'TABLE'
    -- end
    UNION ALL
    -- What makes a granted object usable.
    SELECT m.rule, 'SCHEMA', p.oid, 0::bigint, 'USAGE', true
    FROM matched_place m JOIN rule r ON r.id = m.rule JOIN place p ON p.name = m.schema
    WHERE r.access IS NOT NULL AND m.class IN ('TABLE', 'SEQUENCE')
    UNION ALL
    SELECT m.rule, 'DATABASE', d.oid, 0::bigint, 'CONNECT', true
    FROM matched_place m JOIN rule r ON r.id = m.rule, own_database d
    WHERE r.access IS NOT NULL AND m.class IN ('TABLE', 'SEQUENCE', 'SCHEMA')
),
-- With grant options. To hold a privilege with grant option is to hold it; so its absence is that of both.
item AS (
    SELECT i.rule, i.class, i.oid, i.part, i.privilege, i.implied, r.absent
    FROM plain_item i JOIN rule r ON r.id = i.rule WHERE NOT (r.absent AND r.option)
    UNION ALL
    SELECT i.rule, i.class, i.oid, i.part, i.privilege || '*', false, r.absent
    FROM plain_item i JOIN rule r ON r.id = i.rule WHERE (r.option OR r.absent) AND NOT i.implied
),
want AS MATERIALIZED (
    -- Sorted afterwards, and only where there is more than one: rows are hashed in place of sorted.
    SELECT class, oid, part, privilege, absent, implied,
           CASE WHEN cardinality(rules) = 1 THEN rules ELSE ARRAY(SELECT DISTINCT unnest(rules) ORDER BY 1) END AS rules
    FROM (SELECT class, oid, part, privilege, absent, bool_and(implied) AS implied, array_agg(rule) AS rules
          FROM item GROUP BY class, oid, part, privilege, absent) AS w
),
-- Few distinct combinations of rules stand behind many objects: their grantees are united once each. Most are of one rule.
distinct_rules AS MATERIALIZED (
    SELECT rules, row_number() OVER () AS number FROM (SELECT DISTINCT rules FROM want) AS w
),
combination AS MATERIALIZED (
    SELECT c.rules, r.grantees FROM distinct_rules c JOIN rule r ON r.id = c.rules[1]
    WHERE cardinality(c.rules) = 1 AND r.grantees <> '{}'
    UNION ALL
    SELECT c.rules, u.grantees
    FROM distinct_rules c
    JOIN (SELECT s.number, array_agg(DISTINCT g ORDER BY g) AS grantees
          FROM (SELECT DISTINCT c.number, r.grantees
                FROM distinct_rules c CROSS JOIN LATERAL unnest(c.rules) AS x(id) JOIN rule r USING (id)
                WHERE cardinality(c.rules) > 1) AS s
          CROSS JOIN LATERAL unnest(s.grantees) AS g
          GROUP BY s.number) AS u USING (number)
),
forbid AS MATERIALIZED (
    SELECT w.class, w.oid, w.part, w.privilege, w.rules, c.grantees FROM want w JOIN combination c USING (rules) WHERE w.absent
),
-- Where both are declared, the narrower holds.
declared AS MATERIALIZED (
    SELECT w.class, w.oid, w.part, w.privilege, w.implied, w.rules,
           CASE WHEN f.grantees IS NULL THEN x.grantees
                ELSE ARRAY(SELECT unnest(x.grantees) EXCEPT SELECT unnest(f.grantees) ORDER BY 1) END AS grantees
    FROM want w
    JOIN combination c USING (rules)
    CROSS JOIN LATERAL (
        -- Whoever makes something has it anyway: the defaults of a schema need not say so.
        SELECT CASE WHEN w.class LIKE 'DEFAULT %%' AND w.part <> 0 THEN array_remove(c.grantees, w.oid)
                    -- Neither need the columns of whoever owns the table.
                    WHEN w.class = 'COLUMN'
                    THEN array_remove(c.grantees, (SELECT t.relowner FROM pg_class t WHERE t.oid = w.oid))
                    ELSE c.grantees END AS grantees
    ) AS x
    LEFT JOIN forbid f USING (class, oid, part, privilege)
    WHERE NOT w.absent
),
-- Where, and of whom, what nobody declares is looked for: never of the system, nor of the operator itself.
searched_grantee AS MATERIALIZED (
    SELECT NULL::oid AS oid WHERE false
    -- if search
    UNION ALL
    SELECT g.oid FROM (SELECT oid, rolname::text FROM pg_roles UNION ALL SELECT 0, 'PUBLIC') AS g(oid, name), scope
    WHERE g.name !~* '@SYSTEM_ROLE@' AND g.name <> current_user
      AND (scope.roles IS NULL OR g.name = ANY (scope.roles)) AND (%(focus)s::oid[] IS NULL OR g.oid = ANY (%(focus)s::oid[]))
    -- end
),
searched AS MATERIALIZED (
    SELECT NULL::text AS class, NULL::oid AS oid, NULL::bigint AS part WHERE false
    -- if search
    UNION ALL
    SELECT class, oid, part FROM candidate WHERE searched
    UNION ALL
    SELECT 'COLUMN', a.attrelid, a.attnum FROM pg_attribute a
    WHERE EXISTS (SELECT FROM scope) AND a.attacl IS NOT NULL AND NOT a.attisdropped
      AND a.attrelid IN (SELECT oid FROM candidate WHERE searched AND class = 'TABLE')
    UNION ALL
    SELECT t.class, a.defaclrole, a.defaclnamespace::bigint
    FROM pg_default_acl a JOIN pg_roles o ON o.oid = a.defaclrole
    JOIN (VALUES ('r', 'DEFAULT TABLES'), ('S', 'DEFAULT SEQUENCES'), ('f', 'DEFAULT ROUTINES'), ('T', 'DEFAULT TYPES'),
                 ('n', 'DEFAULT SCHEMAS'), ('L', 'DEFAULT LARGE OBJECTS')) AS t(code, class) ON t.code = a.defaclobjtype
    CROSS JOIN scope
    WHERE o.rolname !~* '@SYSTEM_ROLE@'
      AND a.defaclnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname = ANY (%(platform)s::text[]))
      AND (scope.schemas IS NULL OR a.defaclnamespace IN (SELECT oid FROM place WHERE searched))
    -- end
),
interesting_grantee AS MATERIALIZED (
    SELECT g AS oid FROM (SELECT grantees FROM combination UNION SELECT grantees FROM ledger_row) AS a, unnest(a.grantees) AS g
    UNION SELECT oid FROM searched_grantee
),
object AS MATERIALIZED (
    SELECT class, oid, part FROM want UNION SELECT class, oid, part FROM ledger_row
    UNION SELECT 'DATABASE', oid, 0 FROM own_database
    UNION SELECT 'TABLE', oid, 0 FROM want WHERE class = 'COLUMN'
    -- if DEFAULT
    UNION SELECT class, oid, 0 FROM want WHERE class LIKE 'DEFAULT %%' AND absent
    -- end
    UNION SELECT class, oid, part FROM searched
),
acl AS MATERIALIZED (
    SELECT o.class, o.oid, o.part, c.relowner AS owner,
           COALESCE(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)) AS acl
    FROM object o JOIN pg_class c ON c.oid = o.oid WHERE o.class IN ('TABLE', 'SEQUENCE')
    -- if COLUMN
    UNION ALL
    SELECT o.class, o.oid, o.part, c.relowner, COALESCE(a.attacl, acldefault('c', c.relowner))
    FROM object o JOIN pg_class c ON c.oid = o.oid
    JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum = o.part AND NOT a.attisdropped WHERE o.class = 'COLUMN'
    -- end
    -- if ROUTINE
    UNION ALL
    SELECT o.class, o.oid, o.part, f.proowner, COALESCE(f.proacl, acldefault('f', f.proowner))
    FROM object o JOIN pg_proc f ON f.oid = o.oid WHERE o.class = 'ROUTINE'
    -- end
    -- if TYPE
    UNION ALL
    SELECT o.class, o.oid, o.part, t.typowner, COALESCE(t.typacl, acldefault('T', t.typowner))
    FROM object o JOIN pg_type t ON t.oid = o.oid WHERE o.class = 'TYPE'
    -- end
    UNION ALL
    SELECT o.class, o.oid, o.part, n.nspowner, COALESCE(n.nspacl, acldefault('n', n.nspowner))
    FROM object o JOIN pg_namespace n ON n.oid = o.oid WHERE o.class = 'SCHEMA'
    UNION ALL
    SELECT o.class, o.oid, o.part, d.datdba, COALESCE(d.datacl, acldefault('d', d.datdba))
    FROM object o JOIN pg_database d ON d.oid = o.oid WHERE o.class = 'DATABASE'
    -- if LANGUAGE
    UNION ALL
    SELECT o.class, o.oid, o.part, l.lanowner, COALESCE(l.lanacl, acldefault('l', l.lanowner))
    FROM object o JOIN pg_language l ON l.oid = o.oid WHERE o.class = 'LANGUAGE'
    -- end
    -- if FOREIGN DATA WRAPPER
    UNION ALL
    SELECT o.class, o.oid, o.part, w.fdwowner, COALESCE(w.fdwacl, acldefault('F', w.fdwowner))
    FROM object o JOIN pg_foreign_data_wrapper w ON w.oid = o.oid WHERE o.class = 'FOREIGN DATA WRAPPER'
    -- end
    -- if FOREIGN SERVER
    UNION ALL
    SELECT o.class, o.oid, o.part, s.srvowner, COALESCE(s.srvacl, acldefault('S', s.srvowner))
    FROM object o JOIN pg_foreign_server s ON s.oid = o.oid WHERE o.class = 'FOREIGN SERVER'
    -- end
    -- if LARGE OBJECT
    UNION ALL
    SELECT o.class, o.oid, o.part, l.lomowner, COALESCE(l.lomacl, acldefault('L', l.lomowner))
    FROM object o JOIN pg_largeobject_metadata l ON l.oid = o.oid WHERE o.class = 'LARGE OBJECT'
    -- end
    -- if TABLESPACE
    UNION ALL
    SELECT o.class, o.oid, o.part, s.spcowner, COALESCE(s.spcacl, acldefault('t', s.spcowner))
    FROM object o JOIN pg_tablespace s ON s.oid = o.oid WHERE o.class = 'TABLESPACE'
    -- end
    -- if PARAMETER
    UNION ALL
    -- 10: the role that initdb made owns all parameters.
    SELECT o.class, o.oid, o.part, 10, COALESCE(p.paracl, acldefault('p', 10))
    FROM object o LEFT JOIN pg_parameter_acl p ON hashtextextended(p.parname, 0) = o.part WHERE o.class = 'PARAMETER'
    -- end
    -- if DEFAULT
    UNION ALL
    -- Default privileges of a schema come on top of the global ones, which begin with PostgreSQL's own. 'c', of columns, is the
    -- empty ACL: aclexplode refuses an array without dimensions.
    SELECT o.class, o.oid, o.part, o.oid,
           COALESCE(a.defaclacl, acldefault(CASE o.part WHEN 0 THEN t.kind ELSE 'c' END, o.oid))
    FROM object o
    JOIN (VALUES ('DEFAULT TABLES', 'r'::"char", 'r'::"char"), ('DEFAULT SEQUENCES', 'S', 's'), ('DEFAULT ROUTINES', 'f', 'f'),
                 ('DEFAULT TYPES', 'T', 'T'), ('DEFAULT SCHEMAS', 'n', 'n'), ('DEFAULT LARGE OBJECTS', 'L', 'L'))
         AS t(class, code, kind) USING (class)
    JOIN pg_roles r ON r.oid = o.oid
    LEFT JOIN pg_default_acl a ON a.defaclrole = o.oid AND a.defaclnamespace = o.part::oid AND a.defaclobjtype = t.code
    -- end
),
-- Many objects have the same ACL: each distinct one is taken apart once. "|| '{}'" unpacks a long one, lest aclexplode do so
-- again for each of its entries.
shared_acl AS MATERIALIZED (
    SELECT row_number() OVER () AS number, acl || '{}'::aclitem[] AS acl, array_agg(class) AS classes, array_agg(oid) AS oids,
           array_agg(part) AS parts, array_agg(owner) AS owners
    FROM acl GROUP BY acl
),
exploded AS MATERIALIZED (
    SELECT u.number, y.privilege, x.grantor, y.grantees, y.public, y.mine,
           count(*) FILTER (WHERE y.grantees <> '{}') OVER (PARTITION BY u.number, y.privilege) AS grantors
    FROM shared_acl u
    CROSS JOIN LATERAL (
        SELECT i.privilege_type AS privilege, i.grantor,
               COALESCE(array_agg(i.grantee ORDER BY i.grantee) FILTER (WHERE i.interesting), '{}') AS grantees,
               array_agg(i.grantee ORDER BY i.grantee) FILTER (WHERE i.interesting AND i.is_grantable) AS options,
               bool_or(i.grantee = 0) AS public,
               bool_or(i.mine) AS mine
        FROM (SELECT *, grantee IN (SELECT oid FROM interesting_grantee) AS interesting,
                     is_grantable AND grantee IN (SELECT oid FROM my_role) AS mine
              FROM aclexplode(u.acl)) AS i
        -- Not what owners hold by themselves, which is most of it.
        WHERE i.interesting OR i.mine OR i.grantee = 0
        GROUP BY i.privilege_type, i.grantor
    ) AS x
    CROSS JOIN LATERAL (
        SELECT x.privilege, x.grantees, x.public, x.mine
        UNION ALL
        SELECT x.privilege || '*', x.options, false, x.mine WHERE x.options IS NOT NULL
    ) AS y
    WHERE y.grantees <> '{}' OR y.public OR y.mine
),
entry AS MATERIALIZED (
    SELECT o.class, o.oid, o.part, o.owner, x.privilege, x.grantor, x.grantees, x.public, x.mine, x.grantors
    FROM shared_acl u
    CROSS JOIN LATERAL unnest(u.classes, u.oids, u.parts, u.owners) AS o(class, oid, part, owner)
    JOIN exploded x USING (number)
),
-- Who of the interesting grantees holds a privilege, whoever granted it; usually there is one grantor, who is named then.
held AS MATERIALIZED (
    SELECT class, oid, part, privilege, owner, grantor, grantees FROM entry WHERE grantors = 1 AND grantees <> '{}'
    UNION ALL
    SELECT class, oid, part, privilege, NULL, NULL, array_agg(DISTINCT g ORDER BY g)
    FROM entry, unnest(grantees) AS g WHERE grantors > 1 GROUP BY class, oid, part, privilege
),
public AS MATERIALIZED (
    SELECT DISTINCT class, oid, part, privilege FROM entry WHERE public
),
-- What other connections hold in this database.
elsewhere AS MATERIALIZED (
    SELECT class, objid AS oid, part, privilege, array_agg(DISTINCT g) AS grantees
    FROM lakebase_operator.held, unnest(grantees) AS g
    WHERE connection <> %(connection)s AND privilege NOT LIKE '-%%' GROUP BY class, objid, part, privilege
),
-- What became of what is declared.
outcome AS MATERIALIZED (
    SELECT class, oid, part, privilege, d.implied, d.rules, d.grantees AS wanted, h.grantees AS held, h.owner, h.grantor,
           d.grantees = h.grantees AS fulfilled
    FROM declared d LEFT JOIN held h USING (class, oid, part, privilege)
),
-- Held just as it is declared and recorded. Where nothing has changed that is all, and nothing more is to be said of it.
settled AS MATERIALIZED (
    SELECT class, oid, part, privilege, grantor, l.grantees
    FROM ledger l JOIN outcome o USING (class, oid, part, privilege, grantor)
    WHERE o.fulfilled AND l.grantees = o.held AND o.owner <> ALL (o.held)
),
open_entry AS MATERIALIZED (
    SELECT e.* FROM entry e
    WHERE e.grantees <> '{}'
      AND NOT EXISTS (SELECT FROM settled s
                      WHERE (s.class, s.oid, s.part, s.privilege) = (e.class, e.oid, e.part, e.privilege))
),
open_row AS MATERIALIZED (
    SELECT l.* FROM ledger_row l
    WHERE NOT EXISTS (SELECT FROM settled s
                      WHERE (s.class, s.oid, s.part, s.privilege, s.grantor) = (l.class, l.oid, l.part, l.privilege, l.grantor))
),
-- The ledger with the grantor under which its entries are found today: a change of owner rewrites the grantor in the ACL.
-- Not claimed are an owner's own rights, and what is left to another connection that holds it too.
claim_by_row AS MATERIALIZED (
    SELECT l.class, l.oid, l.part, l.privilege, found.grantor,
           count(*) OVER (PARTITION BY l.class, l.oid, l.part, l.privilege, found.grantor) AS rows,
           CASE WHEN w.grantees IS NULL AND a.owner <> ALL (l.grantees) THEN l.grantees
                ELSE ARRAY(SELECT g FROM unnest(l.grantees) AS g
                           WHERE g <> a.owner AND (g = ANY (d.grantees) OR g <> ALL (COALESCE(w.grantees, '{}')))
                           ORDER BY g) END AS grantees
    FROM open_row l
    JOIN acl a USING (class, oid, part)
    LEFT JOIN entry e USING (class, oid, part, privilege, grantor)
    CROSS JOIN LATERAL (SELECT CASE WHEN e.owner IS NOT NULL THEN l.grantor
             -- A former owner stands in the ACL no more; anybody who does has simply revoked it.
             WHEN EXISTS (SELECT FROM aclexplode(a.acl) AS x WHERE l.grantor IN (x.grantor, x.grantee)) THEN l.grantor
             ELSE a.owner END AS grantor) AS found
    LEFT JOIN declared d USING (class, oid, part, privilege)
    LEFT JOIN elsewhere w USING (class, oid, part, privilege)
    WHERE l.privilege NOT LIKE '-%%'
),
claim AS MATERIALIZED (
    SELECT class, oid, part, privilege, grantor, grantees FROM claim_by_row WHERE rows = 1
    UNION ALL
    SELECT class, oid, part, privilege, grantor, array_agg(DISTINCT g ORDER BY g)
    FROM claim_by_row, unnest(grantees) AS g WHERE rows > 1 GROUP BY class, oid, part, privilege, grantor
),
-- What is there by default: PostgreSQL gives it to PUBLIC, or the extension gave it when it was made. Not ours, so it is
-- never revoked unless its absence is declared (https://www.postgresql.org/docs/current/ddl-priv.html).
baseline AS MATERIALIZED (
    SELECT class, oid, part, privilege, array_agg(DISTINCT grantee ORDER BY grantee) AS grantees
    FROM (
        SELECT o.class, o.oid, o.part, p.privilege, 0::oid AS grantee
        FROM object o
        JOIN (VALUES ('DATABASE', 'CONNECT'), ('DATABASE', 'TEMPORARY'), ('ROUTINE', 'EXECUTE'), ('TYPE', 'USAGE'),
                     ('LANGUAGE', 'USAGE'), ('DEFAULT ROUTINES', 'EXECUTE'), ('DEFAULT TYPES', 'USAGE'))
             AS p(class, privilege) USING (class)
        WHERE o.class NOT LIKE 'DEFAULT %%' OR o.part = 0
        UNION ALL
        SELECT o.class, o.oid, o.part, x.privilege_type || s.star, x.grantee
        FROM object o
        JOIN (VALUES ('TABLE', 'pg_class'::regclass), ('COLUMN', 'pg_class'), ('SEQUENCE', 'pg_class'), ('ROUTINE', 'pg_proc'),
                     ('TYPE', 'pg_type'), ('SCHEMA', 'pg_namespace'), ('LANGUAGE', 'pg_language'),
                     ('FOREIGN DATA WRAPPER', 'pg_foreign_data_wrapper'), ('FOREIGN SERVER', 'pg_foreign_server'))
             AS t(class, catalog) USING (class)
        JOIN pg_init_privs i ON i.objoid = o.oid AND i.objsubid = o.part AND i.classoid = t.catalog
        CROSS JOIN LATERAL aclexplode(i.initprivs) AS x
        CROSS JOIN LATERAL (SELECT '' AS star UNION ALL SELECT '*' WHERE x.is_grantable) AS s
    ) AS b
    WHERE grantee <> 0 OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset(%(opened)s::jsonb) AS j(class text, oid oid, part bigint, privilege text)
        WHERE (j.class, j.oid, j.part, j.privilege) = (b.class, b.oid, b.part, b.privilege))
    GROUP BY class, oid, part, privilege
),
-- Of what is declared (or was, and could not be taken back) what the ACLs hold today.
-- A privilege that several grantors gave is recorded once: as before, else as the owner's.
-- Again, few distinct combinations of arrays stand behind many rows.
single AS MATERIALIZED (
    SELECT e.class, e.oid, e.part, e.privilege, e.grantor, e.owner, e.grantees AS held, COALESCE(d.grantees, '{}') AS wanted,
           COALESCE(k.grantees, '{}') AS claimed, COALESCE(b.grantees, '{}') AS basic,
           -- Just what is declared, and nothing of it by default or by right: most of all rows.
           COALESCE(e.grantees = d.grantees AND NOT e.grantees && COALESCE(b.grantees, '{}') AND e.owner <> ALL (e.grantees),
                    false) AS exact
    FROM open_entry e
    LEFT JOIN declared d USING (class, oid, part, privilege)
    LEFT JOIN claim k USING (class, oid, part, privilege, grantor)
    LEFT JOIN baseline b USING (class, oid, part, privilege)
    WHERE e.grantors = 1 AND (d.grantees IS NOT NULL OR k.grantees IS NOT NULL)
),
single_combination AS MATERIALIZED (
    SELECT *, ARRAY(SELECT unnest(c.held)
                    INTERSECT (SELECT g FROM unnest(c.wanted) AS g WHERE g <> ALL (c.basic)
                               UNION SELECT unnest(c.claimed))
                    EXCEPT SELECT c.owner
                    ORDER BY 1) AS grantees
    FROM (SELECT DISTINCT owner, held, wanted, claimed, basic FROM single WHERE NOT exact) AS c
),
found AS MATERIALIZED (
    SELECT class, oid, part, privilege, grantor, held AS grantees FROM single WHERE exact
    UNION ALL
    SELECT s.class, s.oid, s.part, s.privilege, s.grantor, c.grantees
    FROM single s JOIN single_combination c USING (owner, held, wanted, claimed, basic)
    WHERE NOT s.exact
    UNION ALL
    SELECT o.class, o.oid, o.part, o.privilege, o.grantor, array_agg(o.grantee ORDER BY o.grantee)
    FROM (
        SELECT DISTINCT ON (e.class, e.oid, e.part, e.privilege, g.grantee)
               e.class, e.oid, e.part, e.privilege, e.grantor, g.grantee
        FROM open_entry e
        CROSS JOIN LATERAL unnest(e.grantees) AS g(grantee)
        LEFT JOIN declared d USING (class, oid, part, privilege)
        LEFT JOIN baseline b USING (class, oid, part, privilege)
        LEFT JOIN claim k ON k.class = e.class AND k.oid = e.oid AND k.part = e.part AND k.privilege = e.privilege
                         AND k.grantor = e.grantor AND g.grantee = ANY (k.grantees)
        WHERE e.grantors > 1 AND g.grantee <> e.owner
          AND (k.grantor IS NOT NULL OR (g.grantee = ANY (d.grantees) AND g.grantee <> ALL (COALESCE(b.grantees, '{}'))))
        ORDER BY e.class, e.oid, e.part, e.privilege, g.grantee, k.grantor IS NULL, e.grantor <> e.owner, e.grantor
    ) AS o
    GROUP BY o.class, o.oid, o.part, o.privilege, o.grantor
),
drifted AS MATERIALIZED (
    SELECT k.class, k.oid, k.part, k.privilege, k.grantor, array_agg(DISTINCT g ORDER BY g) AS grantees
    FROM claim k
    JOIN declared d USING (class, oid, part, privilege)
    LEFT JOIN held h USING (class, oid, part, privilege)
    CROSS JOIN LATERAL unnest(k.grantees) AS g
    WHERE %(keep_drifted)s AND d.grantees IS DISTINCT FROM h.grantees
      AND g = ANY (d.grantees) AND g <> ALL (COALESCE(h.grantees, '{}'))
    GROUP BY k.class, k.oid, k.part, k.privilege, k.grantor
),
-- What the ledger has to say, besides what is settled.
record AS MATERIALIZED (
    SELECT class, oid, part, privilege, grantor,
           CASE WHEN s.grantees IS NULL THEN f.grantees
                ELSE ARRAY(SELECT unnest(f.grantees) UNION SELECT unnest(s.grantees) ORDER BY 1) END AS grantees
    FROM found f FULL JOIN drifted s USING (class, oid, part, privilege, grantor)
    UNION ALL
    -- Absences: what is not held; and where drift is only reported, what was reached before.
    SELECT f.class, f.oid, f.part, '-' || f.privilege, 0,
           ARRAY(SELECT g FROM unnest(f.grantees) AS g
                 WHERE g <> ALL (COALESCE(h.grantees, '{}')) OR (%(keep_drifted)s AND g = ANY (r.grantees)) ORDER BY g)
    FROM forbid f
    JOIN acl USING (class, oid, part)
    LEFT JOIN held h USING (class, oid, part, privilege)
    LEFT JOIN reached r USING (class, oid, part, privilege)
)
