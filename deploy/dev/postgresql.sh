#!/bin/sh
# Makes sure that this machine has what starts a private PostgreSQL server.
#
#   postgresql.sh          any one
#   postgresql.sh --both   Debian's own and the newest, for the tests
#
# With LAPSE_POSTGRES_BIN set, any one is that one. Debian's packages are
# installed when we are root or may become it without a password. No server is
# started and no cluster of the system is made by that: Lapse makes its own, in
# its own folders. Otherwise, and for the newest version, the packages are
# unpacked into the cache folder, which needs no rights.
set -eu
umask 022
here=$(dirname "$0")

. "$here/debian.sh"

system_servers() { report /usr/lib/postgresql/*/bin/postgres; }

# The package would make a cluster and start it. A setting that is there only
# during the installation prevents that, whatever the machine's policy on
# starting services is.
install_system() {
	echo "Installing PostgreSQL from Debian's packages"
	apt update && apt install --yes --no-install-recommends postgresql-common || return 1
	conf=/etc/postgresql-common/createcluster.conf
	[ -e $conf.lapse ] || as_root cp -p $conf $conf.lapse || return 1
	as_root sed -i '/^[# ]*create_main_cluster/d; $a create_main_cluster = false' $conf || return 1
	status=0
	apt install --yes --no-install-recommends postgresql || status=$?
	as_root mv $conf.lapse $conf
	return $status
}

ensure_system() {
	[ -z "$(system_servers)" ] || return 0
	may_install || return 1
	# Two of us must not install at once.
	(
		flock 9
		[ -n "$(system_servers)" ] || install_system
	) 9>"$cache/apt.lock"
}

ensure_private() { "$here/sid.sh" "$cache/postgresql-sid" 'usr/lib/postgresql/*/bin/postgres' postgresql; }

if [ "${1:-}" = --both ]; then
	lacking=
	ensure_system || lacking="Debian's own PostgreSQL"
	ensure_private || lacking="${lacking:+$lacking and }the newest PostgreSQL"
	system_servers
	report "$cache"/postgresql-*/usr/lib/postgresql/*/bin/postgres
	missing "$lacking"
	exit 0
fi

if [ -n "${LAPSE_POSTGRES_BIN:-}" ]; then
	"$LAPSE_POSTGRES_BIN/postgres" --version
	exit 0
fi
servers=$(system_servers; report "$cache"/postgresql-*/usr/lib/postgresql/*/bin/postgres)
if [ -n "$servers" ]; then
	echo "$servers"
elif command -v postgres >/dev/null; then
	postgres --version
elif ! ensure_system && ! ensure_private; then
	cat >&2 <<-END
	There is no PostgreSQL server for the demonstration, and it could not be installed.
	Install one yourself, then name the folder of its initdb, postgres and psql:
	    make run LAPSE_POSTGRES_BIN=/path/to/postgresql/bin
	or start without the demonstration, on a file of your own:
	    bin/lapse-dev -f lapse.yaml
	END
	exit 1
fi
