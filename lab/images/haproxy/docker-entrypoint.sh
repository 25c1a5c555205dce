#!/bin/sh
# What the official image's entrypoint does: options alone mean haproxy, which always runs as master and worker (-W),
# in the foreground (-db).
set -eu

case "${1:-}" in
    -*) set -- haproxy "$@" ;;
esac

if [ "${1:-}" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi

exec "$@"
