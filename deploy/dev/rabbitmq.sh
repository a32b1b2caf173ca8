#!/bin/sh
# Makes sure that this machine has what starts the private RabbitMQ of the tests:
# the oldest version that is supported, Debian 12's, and the newest.
#
# Both are unpacked into the cache folder, which needs no rights: Debian's
# packages would make services of the broker and of Erlang's port mapper.
set -eu
umask 022
here=$(dirname "$0")
. "$here/debian.sh"

lacking=
lacks() { lacking="${lacking:+$lacking and }$1"; }
unpack() { SUITE=$1 "$here/sid.sh" "$cache/rabbitmq-$1" 'usr/lib/erlang/erts-*/bin/epmd' rabbitmq-server; }
unpack bookworm || lacks "Debian 12's RabbitMQ"
unpack sid || lacks "the newest RabbitMQ"
for home in "$cache"/rabbitmq-*/usr/lib/rabbitmq/lib/rabbitmq_server-*; do
	[ ! -d "$home" ] || echo "RabbitMQ ${home##*-}"
done
missing "$lacking"
