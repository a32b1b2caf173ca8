-- What a role owns in this database, and ($2) on the server as a whole.
SELECT pg_describe_object(s.classid, s.objid, s.objsubid)
FROM pg_shdepend s
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1::int8::oid AND s.deptype = 'o'
  AND s.classid <> 'pg_default_acl'::regclass
  AND (s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) OR ($2::bool AND s.dbid = 0))
ORDER BY 1 LIMIT 100
