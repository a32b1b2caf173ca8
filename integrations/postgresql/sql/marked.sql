-- Roles with a mark that names an integration ($1), after a name ($2), a page of
-- $3, whether the connector may change them, and how many have their privileges.
SELECT r.oid::int8, r.rolname::text, r.rolcanlogin, d.description,
       me.rolsuper OR CASE WHEN current_setting('server_version_num')::int >= 160000 THEN pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
                           ELSE me.rolcreaterole END,
       (SELECT count(*)::int FROM pg_auth_members m
        WHERE m.roleid = r.oid AND coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true))
FROM pg_shdescription d
JOIN pg_roles r ON r.oid = d.objoid
JOIN pg_roles me ON me.rolname = current_user
WHERE d.classoid = 'pg_authid'::regclass AND d.description LIKE 'lapse:v1:%' AND strpos(d.description, $1::text) > 0
  AND r.rolname COLLATE "C" > $2::text
ORDER BY r.rolname COLLATE "C" LIMIT $3::int
