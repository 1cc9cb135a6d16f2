#!/usr/bin/env bash
# Installs PostgreSQL for `make bench` where it is missing (15 where the system has it, else its
# default), without a server that starts by itself, and prints where its programs are. Tests do not
# need it.
set -euo pipefail

found() {
    local bin
    for bin in /usr/lib/postgresql/15/bin /usr/lib/postgresql/*/bin; do
        [ -x "$bin/initdb" ] && [ -x "$bin/pg_basebackup" ] && echo "$bin" && return 0
    done
    return 1
}

if ! found >/dev/null; then
    command -v apt-get >/dev/null || {
        echo "setup: PostgreSQL is missing; please install its server" >&2
        exit 1
    }
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo -n)
    echo "setup: installing PostgreSQL" >&2
    "${sudo[@]}" apt-get update --quiet=2 >&2
    package=postgresql
    ! apt-cache show postgresql-15 >/dev/null 2>&1 || package=postgresql-15
    # The package makes and starts a server of its own unless it is told not to.
    settings=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$settings" ]; then
        "${sudo[@]}" mkdir -p "$(dirname "$settings")"
        echo 'create_main_cluster = false' | "${sudo[@]}" tee "$settings" >/dev/null
    fi
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 \
        --no-install-recommends -o Dpkg::Options::=--force-confold "$package" >&2
fi
found
