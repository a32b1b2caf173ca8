-- Through what a role comes by privileges on the tables of a schema ($2, NULL:
-- all), or on one table ($3): PUBLIC, roles it is a member of, itself.
WITH RECURSIVE via(oid) AS (
    SELECT $1::int8::oid
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN via ON m.member = via.oid
    WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)
), relation AS (
    SELECT c.oid, c.relowner, c.relacl FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND ($2::text IS NULL OR n.nspname = $2::text) AND ($3::text IS NULL OR c.relname = $3::text)
)
SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END,
       coalesce(shobj_description(a.grantee, 'pg_authid'), '')
FROM relation c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE a.privilege_type = ANY ($4::text[]) AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM via))
UNION
SELECT r.rolname::text, '' FROM via JOIN pg_roles r ON r.oid = via.oid
WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain') OR r.rolsuper
ORDER BY 1
