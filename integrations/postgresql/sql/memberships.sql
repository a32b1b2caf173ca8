-- The roles that roles are direct members of, one row for each grantor.
-- inherit_option came with PostgreSQL 16.
SELECT m.member::int8, r.rolname::text, coalesce(shobj_description(r.oid, 'pg_authid'), ''),
       coalesce(g.rolname::text, ''), coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
FROM pg_auth_members m
JOIN pg_roles r ON r.oid = m.roleid
LEFT JOIN pg_roles g ON g.oid = m.grantor
WHERE m.member = ANY ($1::int8[]::oid[])
ORDER BY 1, 2, 4
