#!/bin/sh
# Makes sure that this machine has what starts the private MySQL and MariaDB of
# the tests: Debian's own MariaDB, and the newest MariaDB and MySQL.
#
# Debian's own is installed when we are root or may become it without a password:
# its server without the package that would make a service of it, so that nothing
# is started or configured. The newest are unpacked into the cache folder, which
# needs no rights.
set -eu
umask 022
here=$(dirname "$0")
. "$here/debian.sh"

# The client is there to paste the command into that people get.
there() { [ -x /usr/sbin/mariadbd ] && [ -x /usr/bin/mariadb ]; }

ensure_system() {
	! there || return 0
	may_install || return 1
	# Two of us must not install at once.
	(
		flock 9
		! there || exit 0
		echo "Installing MariaDB from Debian's packages"
		apt update && apt install --yes --no-install-recommends mariadb-server-core mariadb-client-core
	) 9>"$cache/apt.lock"
}

lacking=
lacks() { lacking="${lacking:+$lacking and }$1"; }
ensure_system || lacks "Debian's own MariaDB"
"$here/sid.sh" "$cache/mariadb-sid" usr/sbin/mariadbd mariadb-server-core || lacks "the newest MariaDB"
"$here/sid.sh" "$cache/mysql-sid" usr/sbin/mysqld mysql-server-core || lacks "the newest MySQL"
report /usr/sbin/mariadbd "$cache"/mariadb-*/usr/sbin/mariadbd "$cache"/mysql-*/usr/sbin/mysqld
missing "$lacking"
