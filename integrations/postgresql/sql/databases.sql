-- The databases that can be connected to, and whether the connector may.
SELECT datname::text, has_database_privilege(oid, 'CONNECT'),
       has_database_privilege(0::oid, oid, 'CONNECT')
FROM pg_database WHERE datallowconn AND NOT datistemplate
ORDER BY datname COLLATE "C"
