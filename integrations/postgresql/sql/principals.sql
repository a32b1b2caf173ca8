-- The role of a name ($1), and every role whose mark speaks of an account ($2).
SELECT r.oid::int8, r.rolname::text, r.rolcanlogin,
       CASE WHEN isfinite(r.rolvaliduntil) THEN r.rolvaliduntil END,
       coalesce(d.description, '')
FROM pg_roles r
LEFT JOIN pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE r.rolname = $1::text OR (d.description LIKE 'lapse:v1:%' AND strpos(d.description, $2::text) > 0)
ORDER BY 2
