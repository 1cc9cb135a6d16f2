#!/usr/bin/env bash
# Installs cargo-deny of the given version into the cache, once.
set -euo pipefail

version=$1
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
export PATH="$cache/bin:$PATH"
if [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $version" ]; then
    exit 0
fi
echo "setup: installing cargo-deny $version once, a few minutes" >&2
cargo install cargo-deny --quiet --locked --version "$version" --root "$cache"
