-- The role of a name, and every role whose mark speaks of an account.
SELECT r.oid::int8, r.rolname::text, r.rolcanlogin, r.rolsuper,
       CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END,
       coalesce(shobj_description(r.oid, 'pg_authid'), '')
FROM pg_roles r
WHERE r.rolname = $1::text
   OR (shobj_description(r.oid, 'pg_authid') LIKE 'lapse:v1:%' AND strpos(shobj_description(r.oid, 'pg_authid'), $2::text) > 0)
ORDER BY r.rolname
