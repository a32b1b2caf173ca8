#!/bin/sh
# Fills the database to try Lapse on, as make run does. Runs once, in the
# target's image.
set -eu
run() { psql -v ON_ERROR_STOP=1 -q -U postgres "$@"; }
run -f /demo/roles.sql
printf "ALTER ROLE lapse_connector PASSWORD '%s';\nCREATE DATABASE shop OWNER shop_owner;\n" "$LAPSE_CONNECTOR_PASSWORD" | run
run -d shop -f /demo/shop.sql
