#!/bin/sh
# Unpacks packages of a Debian suite, $SUITE or else the unstable one, with all
# that they need, into DIR.
#
#   sid.sh DIR PROGRAM PACKAGE...
#
# Nothing is installed: apt works in a state of its own below DIR, the packages
# are only unpacked, and no script of theirs runs. It needs neither root nor a
# lock that an apt of the system would want. What was downloaded is held against
# the suite's signed index. Every program beside PROGRAM, a path below DIR in
# which * stands for one part, becomes a small script that starts the real one
# with the C library it was built for, so that an older system can run it.
#
# The suite moves on, so DIR holds the version that it had at the first run. A
# finished DIR is left as it is; remove it to take the newest version again.
set -eu
umask 022

[ $# -ge 3 ] || { echo "usage: $0 DIR PROGRAM PACKAGE..." >&2; exit 2; }
fail() { echo "$0: $*" >&2; exit 1; }

mkdir -p "$(dirname "$1")"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
program=$2
shift 2

exec 9>"$dir.lock"
flock 9
[ ! -d "$dir" ] || exit 0

for tool in apt-get dpkg dpkg-deb; do
	command -v $tool >/dev/null || fail "$tool is missing: this works on Debian only"
done
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null |
	awk '$2 == "Debian" && $3 == "Debian" {print $1; exit}')
mirror=${mirror:-http://deb.debian.org/debian}

work=$dir.unfinished
rm -rf "$work"
mkdir -p "$work/apt/etc/parts" "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial" "$work/tree/usr/lib" "$work/tree/usr/lib64"
chmod 755 "$work/tree"
: >"$work/apt/status"
suite=${SUITE:-sid}
echo "deb $mirror $suite main" >"$work/apt/etc/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::State "$work/apt/state";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Dir::Etc "$work/apt/etc";
Dir::Etc::sourcelist "$work/apt/etc/sources.list";
Dir::Etc::sourceparts "$work/apt/etc/parts";
Dir::Etc::preferencesparts "$work/apt/etc/parts";
Dir::Etc::parts "$work/apt/etc/parts";
Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
Debug::NoLocking "true";
CONF
export APT_CONFIG="$work/apt.conf"

echo "Unpacking $* from $mirror ($suite) into $dir"
apt-get update -qq
# What only serves an installed system stays out.
packages=$(apt-get -qq --print-uris --yes install "$@" |
	awk '{print $2}' | sed 's/_.*//' | sort -u |
	grep -Ev '^(adduser|coreutils|cron.*|debconf|debianutils|dpkg|init-system-helpers|libllvm.*|libpam.*|netbase|passwd|perl.*|libperl.*|locales-all|logrotate|postgresql|postgresql-common.*|postgresql-client-common|postgresql-[0-9]+-jit|sensible-utils|socat|ssl-cert|tar|ucf)$')
(cd "$work/apt/cache" && apt-get -qq download $packages)
# Packages of older suites still have things in /lib.
for name in lib lib64; do ln -s "usr/$name" "$work/tree/$name"; done
for package in "$work"/apt/cache/*.deb; do
	dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$work/tree"
done

first=$(echo "$work/tree/"$program)
[ -x "$first" ] || fail "the packages of $mirror hold no $program"
loader=$(cd "$work/tree" && find usr/lib usr/lib64 -maxdepth 2 -name 'ld-linux*.so.*' 2>/dev/null | head -n 1)
libc=$(cd "$work/tree" && find usr/lib -name libc.so.6 | head -n 1)
[ -n "$loader" ] && [ -n "$libc" ] || fail "the packages of $mirror hold no C library"
up=$(dirname "${first#"$work/tree/"}" | sed 's/[^/][^/]*/../g')
for file in "$(dirname "$first")"/*; do
	# Links and scripts find what they need by themselves.
	[ -f "$file" ] && [ ! -L "$file" ] && [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
	mv "$file" "$file.real"
	cat >"$file" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$0")/$up
export LOCPATH="\$root/usr/lib/locale"
exec "\$root/$loader" --library-path "\$root/$(dirname "$libc")" --argv0 "\$0" "\$0.real" "\$@"
WRAPPER
	chmod 755 "$file"
done

mv "$work/tree" "$dir"
rm -rf "$work"
