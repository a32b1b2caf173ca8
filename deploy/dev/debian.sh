# What the scripts beside this one share; they read it with the command ".".
# It sets cache, the folder for what can be fetched or built again.

if [ -n "${LAPSE_CACHE:-}" ]; then cache=$LAPSE_CACHE
elif [ "$(id -u)" = 0 ]; then cache=/var/cache/lapse
else cache=${XDG_CACHE_HOME:-$HOME/.cache}/lapse
fi
mkdir -p "$cache"

report() { for program in "$@"; do [ ! -x "$program" ] || "$program" --version; done; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
may_install() {
	command -v apt-get >/dev/null || return 1
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

# apt is heard only when it fails.
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$cache/apt.log" 2>&1 || {
		cat "$cache/apt.log" >&2
		return 1
	}
}

# missing NAMES tells that the tests of these servers cannot run.
missing() {
	[ -n "$1" ] || return 0
	echo "$1 is missing; as root, or on Debian, it would have been installed." >&2
	[ "${CI:-}" != true ] || exit 1
	echo "The tests that need it are skipped." >&2
}
