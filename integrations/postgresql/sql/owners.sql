-- Who owns things in a schema ($1, NULL: all) of this database, and the owners
-- that are configured ($2), with whether the connector may act for them.
-- Lapse's own accounts make nothing that others are promised.
WITH space AS (
    SELECT n.oid, n.nspowner FROM pg_namespace n
    WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND ($1::text IS NULL OR n.nspname = $1::text)
), owner AS (
    SELECT nspowner AS oid FROM space
    UNION SELECT c.relowner FROM pg_class c JOIN space s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION SELECT f.proowner FROM pg_proc f JOIN space s ON s.oid = f.pronamespace
    UNION SELECT d.datdba FROM pg_database d WHERE d.datname = current_database()
    UNION SELECT r.oid FROM pg_roles r WHERE r.rolname = ANY ($2::text[])
)
SELECT r.rolname::text, pg_has_role(r.oid, 'USAGE')
FROM owner o JOIN pg_roles r ON r.oid = o.oid
WHERE r.rolname NOT LIKE 'pg\_%' AND coalesce(shobj_description(r.oid, 'pg_authid'), '') NOT LIKE 'lapse:v1:%'
ORDER BY 1
