SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_user::text, r.rolsuper, r.rolcreaterole
FROM pg_roles r WHERE r.rolname = current_user
