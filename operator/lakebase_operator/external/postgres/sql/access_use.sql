-- When each table was last read, as far as the statistics go back. Whose query it was they do not say.
SELECT format('%%I.%%I', schemaname, relname) AS object, greatest(last_seq_scan, last_idx_scan) AS last_scan
FROM pg_stat_user_tables
WHERE schemaname !~ '@SYSTEM_SCHEMA@'
ORDER BY schemaname, relname
LIMIT %(most)s
