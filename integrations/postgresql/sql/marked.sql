-- Roles with a mark that names an integration, after a name, a page at a time.
SELECT r.oid::int8, r.rolname::text, r.rolcanlogin, shobj_description(r.oid, 'pg_authid')
FROM pg_roles r
WHERE shobj_description(r.oid, 'pg_authid') LIKE 'lapse:v1:%'
  AND strpos(shobj_description(r.oid, 'pg_authid'), $1::text) > 0
  AND r.rolname COLLATE "C" > $2::text
ORDER BY r.rolname COLLATE "C" LIMIT $3::int
