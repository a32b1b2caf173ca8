#!/bin/sh
# Makes sure that this machine has a Chromium for the tests of the pages.
#
# With LAPSE_CHROMIUM set, it is that one. Debian's package is installed when we
# are root or may become it without a password.
set -eu
umask 022
. "$(dirname "$0")/debian.sh"

browser() {
	for program in "${LAPSE_CHROMIUM:-}" chromium chromium-browser google-chrome; do
		[ -z "$program" ] || ! command -v "$program" || return 0
	done
	return 1
}

ensure() {
	may_install || return 1
	# Two of us must not install at once.
	(
		flock 9
		[ -z "$(browser)" ] || exit 0
		echo "Installing Chromium from Debian's packages"
		# Without a font there are no letters on its screenshots.
		apt update && apt install --yes --no-install-recommends chromium fonts-inter fonts-dejavu-core
	) 9>"$cache/apt.lock"
	browser
}

browser || ensure || missing Chromium
