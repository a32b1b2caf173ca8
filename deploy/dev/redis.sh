#!/bin/sh
# Makes sure that this machine has what starts the private Redis of the tests:
# Debian's own, and the newest.
#
# Debian's own is installed when we are root or may become it without a password:
# its tools, of which one is the server under another name, without the package
# that would make a service of it. The newest is unpacked into the cache folder,
# which needs no rights.
set -eu
umask 022
here=$(dirname "$0")
. "$here/debian.sh"

ensure_system() {
	[ ! -x /usr/bin/redis-check-rdb ] || return 0
	may_install || return 1
	# Two of us must not install at once.
	(
		flock 9
		[ ! -x /usr/bin/redis-check-rdb ] || exit 0
		echo "Installing Redis from Debian's packages"
		apt update && apt install --yes --no-install-recommends redis-tools
	) 9>"$cache/apt.lock"
}

# The server is its check program under another name.
named() {
	mkdir -p "$(dirname "$2")"
	[ -e "$2" ] || ln -sfn "$1" "$2"
}

lacking=
lacks() { lacking="${lacking:+$lacking and }$1"; }
if ensure_system; then
	named /usr/bin/redis-check-rdb "$cache/redis-debian/usr/bin/redis-server"
else
	lacks "Debian's own Redis"
fi
if "$here/sid.sh" "$cache/redis-sid" usr/bin/redis-server redis-server; then
	named redis-check-rdb.real "$cache/redis-sid/usr/bin/redis-server.real"
else
	lacks "the newest Redis"
fi
report "$cache"/redis-*/usr/bin/redis-server
missing "$lacking"
