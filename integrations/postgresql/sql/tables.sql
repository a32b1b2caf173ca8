-- The tables and views of this database after one of them ($2, $3), a page of
-- $4, each with the permissions that the connector can really grant. $1 is the
-- permissions and their privileges as JSON.
WITH level AS (
    SELECT l.* FROM jsonb_to_recordset($1::jsonb) AS l(rank int, name text, "table" text[])
)
SELECT n.nspname::text, c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''),
       ARRAY(SELECT l.name FROM level l
             WHERE (has_schema_privilege(0::oid, n.oid, 'USAGE') OR has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION'))
               AND (NOT EXISTS (SELECT FROM unnest(l.table) p WHERE NOT has_table_privilege(0::oid, c.oid, p))
                    OR NOT EXISTS (SELECT FROM unnest(l.table) p WHERE NOT has_table_privilege(c.oid, p || ' WITH GRANT OPTION')))
             ORDER BY l.rank)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
  AND (n.nspname COLLATE "C", c.relname COLLATE "C") > ($2::text, $3::text)
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" LIMIT $4::int
