-- How many tables a database ($2 NULL), a schema ($2) or one table ($3) is, and
-- whether a role ($1) has on all of them the privileges $5, on their schemas $4,
-- and may connect. Of PUBLIC (0) it is not asked how it comes there. What belongs
-- to an extension is not looked at.
SELECT count(*)::int,
       ($1::int8 = 0 OR has_database_privilege($1::int8::oid, current_database(), 'CONNECT'))
       AND coalesce(bool_and(($1::int8 = 0 OR NOT EXISTS (SELECT FROM unnest($4::text[]) p WHERE NOT has_schema_privilege($1::int8::oid, n.oid, p)))
                             AND NOT EXISTS (SELECT FROM unnest($5::text[]) p WHERE NOT has_table_privilege($1::int8::oid, c.oid, p))), false)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
  AND ($2::text IS NULL OR n.nspname = $2::text) AND ($3::text IS NULL OR c.relname = $3::text)
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
