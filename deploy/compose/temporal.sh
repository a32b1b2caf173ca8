#!/bin/sh
# Makes or updates Temporal's schema. Runs in temporalio/admin-tools, before the
# server; safe to run again.
set -eu
for database in temporal:temporal temporal_visibility:visibility; do
	export SQL_DATABASE="${database%%:*}"
	temporal-sql-tool create-database
	temporal-sql-tool setup-schema -v 0.0
	temporal-sql-tool update-schema -d "/etc/temporal/schema/postgresql/v12/${database##*:}/versioned"
done
