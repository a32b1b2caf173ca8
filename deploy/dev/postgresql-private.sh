#!/bin/sh
# Unpacks the PostgreSQL of Debian's unstable suite (17 or newer) into DIR.
#
#   postgresql-private.sh DIR
#
# Nothing is installed: apt works in a state of its own below DIR, the packages
# are only unpacked, and no script of theirs runs. It needs neither root nor a
# lock that an apt of the system would want. The programs in
# DIR/usr/lib/postgresql/*/bin are small scripts that start the real ones with
# the C library they were built for, so that an older system can run them.
#
# A finished DIR is left as it is; remove it to take the newest version again.
set -eu
umask 022

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
fail() { echo "$0: $*" >&2; exit 1; }

mkdir -p "$(dirname "$1")"
dir=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
report() { for p in "$dir"/usr/lib/postgresql/*/bin/postgres; do "$p" --version; done; }

exec 9>"$dir.lock"
flock 9
if [ -d "$dir" ]; then report; exit 0; fi

for tool in apt-get dpkg dpkg-deb; do
	command -v $tool >/dev/null || fail "$tool is missing: this works on Debian only"
done
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null |
	awk '$2 == "Debian" && $3 == "Debian" {print $1; exit}')
mirror=${mirror:-http://deb.debian.org/debian}

work=$dir.unfinished
rm -rf "$work"
mkdir -p "$work/apt/etc/parts" "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial" "$work/tree"
chmod 755 "$work/tree"
: >"$work/apt/status"
echo "deb $mirror sid main" >"$work/apt/etc/sources.list"
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

echo "Unpacking PostgreSQL from $mirror (sid) into $dir"
apt-get update -qq
# What only serves an installed system, or just-in-time compilation, stays out.
packages=$(apt-get -qq --print-uris --yes install postgresql |
	awk '{print $2}' | sed 's/_.*//' | sort -u |
	grep -Ev '^(adduser|coreutils|debconf|debianutils|dpkg|init-system-helpers|libllvm.*|libpam.*|netbase|passwd|perl.*|libperl.*|postgresql|postgresql-common.*|postgresql-client-common|postgresql-[0-9]+-jit|sensible-utils|ssl-cert|tar|ucf)$')
(cd "$work/apt/cache" && apt-get -qq download $packages)
for package in "$work"/apt/cache/*.deb; do dpkg-deb -x "$package" "$work/tree"; done
for name in lib lib64; do
	[ -e "$work/tree/$name" ] || [ ! -d "$work/tree/usr/$name" ] || ln -s "usr/$name" "$work/tree/$name"
done

bin=$(echo "$work"/tree/usr/lib/postgresql/*/bin)
[ -x "$bin/postgres" ] || fail "the packages of $mirror hold no PostgreSQL server"
triplet=$(basename "$(dirname "$(find "$work/tree/usr/lib" -name libpq.so.5)")")
loader=$(basename "$(find "$work/tree/usr/lib/$triplet" "$work/tree/usr/lib64" -maxdepth 1 -name 'ld-linux*.so.*' 2>/dev/null | head -n 1)")
[ -n "$loader" ] || fail "the packages of $mirror hold no program loader"
for program in "$bin"/*; do
	mv "$program" "$program.real"
	cat >"$program" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$0")/../../../../..
export LOCPATH="\$root/usr/lib/locale"
exec "\$root/usr/lib/$triplet/$loader" --library-path "\$root/usr/lib/$triplet" --argv0 "\$0" "\$0.real" "\$@"
WRAPPER
	chmod 755 "$program"
done

mv "$work/tree" "$dir"
rm -rf "$work"
report
