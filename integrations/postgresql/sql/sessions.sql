SELECT pid FROM pg_stat_activity WHERE usesysid = $1::int8::oid AND pid <> pg_backend_pid() ORDER BY pid
