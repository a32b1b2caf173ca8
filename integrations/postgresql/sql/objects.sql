-- What an entitlement is about, in this database: for each object the
-- privileges asked for that a role has already, and whether the connector can
-- give all of them. $1 role, $2 schema (NULL: all), $3 table (NULL: all),
-- $4 to $8 the privileges asked for on database, schema, table, sequence and
-- routine.
WITH space AS (
    SELECT n.oid, n.nspname, n.nspowner FROM pg_namespace n
    WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
      AND ($2::text IS NULL OR n.nspname = $2::text)
), relation AS (
    SELECT c.oid, s.nspname, c.relname, c.relowner, c.relkind FROM pg_class c JOIN space s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ($3::text IS NULL OR c.relname = $3::text)
), sequence AS (
    SELECT c.oid, s.nspname, c.relname, c.relowner FROM pg_class c JOIN space s ON s.oid = c.relnamespace
    WHERE c.relkind = 'S'
      AND ($3::text IS NULL OR EXISTS (SELECT FROM pg_depend d JOIN relation t ON t.oid = d.refobjid
                                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                         AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
)
SELECT 'database', '', d.datname::text, pg_get_userbyid(d.datdba)::text, false, cardinality($4::text[]) AS wanted,
       ARRAY(SELECT p FROM unnest($4::text[]) p WHERE has_database_privilege($1::int8::oid, d.oid, p)),
       NOT EXISTS (SELECT FROM unnest($4::text[]) p WHERE NOT has_database_privilege(d.oid, p || ' WITH GRANT OPTION'))
FROM pg_database d WHERE d.datname = current_database() AND cardinality($4::text[]) > 0
UNION ALL
SELECT 'schema', '', n.nspname::text, pg_get_userbyid(n.nspowner)::text,
       EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass AND x.objid = n.oid AND x.deptype = 'e'), cardinality($5::text[]),
       ARRAY(SELECT p FROM unnest($5::text[]) p WHERE has_schema_privilege($1::int8::oid, n.oid, p)),
       NOT EXISTS (SELECT FROM unnest($5::text[]) p WHERE NOT has_schema_privilege(n.oid, p || ' WITH GRANT OPTION'))
FROM space n
UNION ALL
SELECT 'table', c.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
       EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e'), cardinality($6::text[]),
       ARRAY(SELECT p FROM unnest($6::text[]) p WHERE has_table_privilege($1::int8::oid, c.oid, p)),
       NOT EXISTS (SELECT FROM unnest($6::text[]) p WHERE NOT has_table_privilege(c.oid, p || ' WITH GRANT OPTION'))
FROM relation c
UNION ALL
SELECT 'sequence', c.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
       EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = c.oid AND x.deptype = 'e'), cardinality($7::text[]),
       ARRAY(SELECT p FROM unnest($7::text[]) p WHERE has_sequence_privilege($1::int8::oid, c.oid, p)),
       NOT EXISTS (SELECT FROM unnest($7::text[]) p WHERE NOT has_sequence_privilege(c.oid, p || ' WITH GRANT OPTION'))
FROM sequence c WHERE cardinality($7::text[]) > 0
UNION ALL
SELECT 'routine', s.nspname::text, f.oid::regprocedure::text, pg_get_userbyid(f.proowner)::text,
       EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'e'), cardinality($8::text[]),
       ARRAY(SELECT p FROM unnest($8::text[]) p WHERE has_function_privilege($1::int8::oid, f.oid, p)),
       NOT EXISTS (SELECT FROM unnest($8::text[]) p WHERE NOT has_function_privilege(f.oid, p || ' WITH GRANT OPTION'))
FROM pg_proc f JOIN space s ON s.oid = f.pronamespace
WHERE cardinality($8::text[]) > 0 AND $3::text IS NULL
