-- The roles of the demonstration. They belong to the cluster and are made from
-- its maintenance database.

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['shop_owner', 'shop_support', 'lapse_connector'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END
$$;

COMMENT ON ROLE shop_support IS 'Reads customers and changes the state of orders. owner=support';

-- What Lapse's connector needs, and no more: it makes accounts, grants what
-- shop_owner owns, ends sessions, and may hand on membership in shop_support.
ALTER ROLE lapse_connector LOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS INHERIT;
GRANT shop_owner TO lapse_connector;
GRANT pg_signal_backend TO lapse_connector;
GRANT shop_support TO lapse_connector WITH ADMIN OPTION;
