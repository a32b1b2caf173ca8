#!/bin/sh
# Builds one command and shows that it goes on: the Temporal server alone is
# about 1,800 packages, which takes minutes the first time.
#
#   build.sh OUT FOLDER     builds the package in FOLDER into the file OUT
set -eu

out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'kill $build 2>/dev/null; exit 130' INT TERM

(cd "$2" && exec "${GO:-go}" build -v -ldflags "-s -w" -o "$out" .) >"$log" 2>&1 &
build=$!
start=$(date +%s)
said=0
while kill -0 $build 2>/dev/null; do
	sleep 1
	seconds=$(($(date +%s) - start))
	if [ $seconds -ge $((said + 10)) ]; then
		said=$seconds
		[ $seconds -ge 20 ] || echo "Building $1. The first time this takes some minutes."
		echo "  $(wc -l <"$log") packages compiled, $seconds s"
	fi
done
if ! wait $build; then
	grep ' ' "$log" >&2 # errors, without the names of packages
	exit 1
fi
