(SELECT class, objid, part, privilege, grantees FROM lakebase_operator.held
     WHERE privilege NOT LIKE '-%%'
       AND (class NOT IN ('DATABASE', 'PARAMETER', 'TABLESPACE')
            OR EXISTS (SELECT FROM lakebase_operator.version v JOIN pg_database d ON d.oid = v.database
                       WHERE d.datname = current_database()))) AS ledger
