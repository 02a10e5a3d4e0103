-- Every membership of the server, one row per edge (PostgreSQL 16 keeps one for each grantor).
SELECT roleid AS role, member, grantor, admin_option AS admin, inherit_option AS inherit, set_option AS set
FROM pg_auth_members
