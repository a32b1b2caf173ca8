SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_user::text, r.rolsuper, r.rolcreaterole,
       (SELECT rolname::text FROM pg_roles WHERE oid = 10)
FROM pg_roles r WHERE r.rolname = current_user
