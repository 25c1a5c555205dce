#!/bin/sh
# What the official image's entrypoint does: options alone mean redis-server, data belong to redis, drop root.
set -eu

case "${1:-redis-server}" in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
fi

# The official binary is built with protected mode off. Debian's has it on, so a server without a configuration file
# is told; with a file, the file decides (and Debian's default is the stricter one).
if [ "${1:-}" = redis-server ]; then
    case "${2:-}" in
        "" | --*)
            shift
            case " $* " in
                *" --version "* | *" --help "* | *" --protected-mode "*) set -- redis-server "$@" ;;
                *) set -- redis-server --protected-mode no "$@" ;;
            esac
            ;;
    esac
fi

if [ "$(umask)" = 0022 ]; then
    umask 0077
fi

exec "$@"
