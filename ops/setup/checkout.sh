#!/usr/bin/env bash
# Makes sure that nothing is taken for built which another checkout of Platbook built:
#
#   ops/setup/checkout.sh TARGET_DIR
#
# Cargo names what it builds of a workspace without the path, and sees by the time of a file alone
# whether it changed. So in a directory that several checkouts build into, an older checkout would run
# the code of a newer one. Where the last one was another, all sources are given the time of now.
set -euo pipefail

target=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mark="$target/checkout"
[ "$(cat "$mark" 2>/dev/null || true)" = "$root" ] && exit 0
if [ -d "$target" ]; then
    echo "setup: $target was last used by another checkout: Platbook itself is compiled again" >&2
fi
mkdir -p "$target"
find "$root" -name target -prune -o -name '*.rs' -type f -exec touch -c {} +
echo "$root" >"$mark" # last: it says that the rest is complete
