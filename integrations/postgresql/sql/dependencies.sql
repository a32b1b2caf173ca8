-- What in the whole cluster depends on roles. owned is what would be lost;
-- default privileges are settings, not things, and count as privileges.
SELECT s.refobjid::int8, coalesce(d.datname::text, ''), s.dbid <> 0,
       CASE WHEN s.deptype = 'o' AND s.classid <> 'pg_default_acl'::regclass THEN 'owned'
            WHEN s.deptype IN ('a', 'i', 'o') THEN 'privilege'
            ELSE 'other' END,
       s.classid::regclass::text, count(*)::int
FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY ($1::int8[]::oid[])
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 4, 5
