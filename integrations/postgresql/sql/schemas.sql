-- This database (first row, with an empty schema) and its schemas, each with
-- the permissions that the connector can really grant. A permission is blocked
-- by an object on which PUBLIC has not all of it and the connector may not give
-- all of it. $1 is the permissions and their privileges as JSON.
WITH level AS (
    SELECT l.* FROM jsonb_to_recordset($1::jsonb)
        AS l(rank int, name text, database text[], schema text[], "table" text[], sequence text[], routine text[])
), space AS (
    SELECT n.oid, n.nspname FROM pg_namespace n
    WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass AND x.objid = n.oid AND x.deptype = 'e')
), relation AS (
    SELECT c.oid, c.relnamespace, c.relkind FROM pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e')
), routine AS (
    SELECT f.oid, f.pronamespace FROM pg_proc f
    WHERE NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'e')
), blocked AS (
    SELECT s.oid, l.name FROM space s, level l
    WHERE (EXISTS (SELECT FROM unnest(l.schema) p WHERE NOT has_schema_privilege(0::oid, s.oid, p))
           AND EXISTS (SELECT FROM unnest(l.schema) p WHERE NOT has_schema_privilege(s.oid, p || ' WITH GRANT OPTION')))
       OR EXISTS (SELECT FROM relation c WHERE c.relnamespace = s.oid AND c.relkind <> 'S'
                  AND EXISTS (SELECT FROM unnest(l.table) p WHERE NOT has_table_privilege(0::oid, c.oid, p))
                  AND EXISTS (SELECT FROM unnest(l.table) p WHERE NOT has_table_privilege(c.oid, p || ' WITH GRANT OPTION')))
       OR EXISTS (SELECT FROM relation c WHERE c.relnamespace = s.oid AND c.relkind = 'S'
                  AND EXISTS (SELECT FROM unnest(l.sequence) p WHERE NOT has_sequence_privilege(0::oid, c.oid, p))
                  AND EXISTS (SELECT FROM unnest(l.sequence) p WHERE NOT has_sequence_privilege(c.oid, p || ' WITH GRANT OPTION')))
       OR EXISTS (SELECT FROM routine f WHERE f.pronamespace = s.oid
                  AND EXISTS (SELECT FROM unnest(l.routine) p WHERE NOT has_function_privilege(0::oid, f.oid, p))
                  AND EXISTS (SELECT FROM unnest(l.routine) p WHERE NOT has_function_privilege(f.oid, p || ' WITH GRANT OPTION')))
)
SELECT '', coalesce(shobj_description(d.oid, 'pg_database'), ''),
       ARRAY(SELECT l.name FROM level l
             WHERE NOT EXISTS (SELECT FROM blocked b WHERE b.name = l.name)
               AND (NOT EXISTS (SELECT FROM unnest(l.database) p WHERE NOT has_database_privilege(0::oid, d.oid, p))
                    OR NOT EXISTS (SELECT FROM unnest(l.database) p WHERE NOT has_database_privilege(d.oid, p || ' WITH GRANT OPTION')))
             ORDER BY l.rank)
FROM pg_database d WHERE d.datname = current_database()
UNION ALL
(SELECT s.nspname::text, coalesce(obj_description(s.oid, 'pg_namespace'), ''),
        ARRAY(SELECT l.name FROM level l WHERE NOT EXISTS (SELECT FROM blocked b WHERE b.oid = s.oid AND b.name = l.name) ORDER BY l.rank)
 FROM space s ORDER BY s.nspname COLLATE "C")
