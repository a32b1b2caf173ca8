-- A role ($1), or a page ($4) of the roles after one ($3), as something that can
-- be requested. Powers are the attributes and
-- dangerous predefined roles that a member could come by; the grantors are those
-- in whose name the server would record the connector's grant.
SELECT r.oid::int8, r.rolname::text, r.rolcanlogin, coalesce(shobj_description(r.oid, 'pg_authid'), ''),
       ARRAY(SELECT d.rolname::text FROM pg_roles d
             WHERE (d.rolname = ANY ($2::text[]) OR d.rolsuper OR d.rolcreaterole OR d.rolreplication OR d.rolbypassrls)
               AND pg_has_role(r.oid, d.oid, 'MEMBER')
             ORDER BY 1),
       CASE WHEN me.rolsuper THEN true
            WHEN current_setting('server_version_num')::int >= 160000 THEN pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION')
            ELSE me.rolcreaterole OR pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION') END,
       CASE WHEN current_setting('server_version_num')::int < 160000 THEN ARRAY[me.rolname::text]
            WHEN me.rolsuper THEN ARRAY(SELECT rolname::text FROM pg_roles WHERE oid = 10)
            ELSE ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.member
                       WHERE m.roleid = r.oid AND m.admin_option AND pg_has_role(me.oid, m.member, 'USAGE') ORDER BY 1) END,
       (SELECT count(*)::int FROM pg_auth_members m
        WHERE m.roleid = r.oid AND coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true))
FROM pg_roles r, pg_roles me
WHERE me.rolname = current_user
  AND CASE WHEN $1::text IS NOT NULL THEN r.rolname = $1::text
           ELSE r.rolname COLLATE "C" > $3::text AND coalesce(shobj_description(r.oid, 'pg_authid'), '') NOT LIKE 'lapse:v1:%' END
ORDER BY r.rolname COLLATE "C" LIMIT $4::int
