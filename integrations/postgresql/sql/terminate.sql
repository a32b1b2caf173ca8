-- Asks the sessions of a role to end; those that do are gone a moment later.
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int FROM pg_stat_activity
WHERE usesysid = $1::int8::oid AND pid <> pg_backend_pid()
