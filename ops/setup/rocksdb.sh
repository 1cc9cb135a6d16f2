#!/usr/bin/env bash
# Compiles RocksDB once and keeps the archive outside the checkout.
#
#   ops/setup/rocksdb.sh            builds the archive if it is missing, prints its directory
#   ops/setup/rocksdb.sh --where    prints the directory only
#
# RocksDB is 340 C++ files: many minutes on two cores, and cargo would compile them again for every
# profile, target directory and checkout. With ROCKSDB_LIB_DIR and ROCKSDB_STATIC=1 the crate
# `librocksdb-sys` links the archive instead. The directory's name holds everything the archive
# depends on, so two checkouts with different versions don't disturb each other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
version=$(sed -n 's/^rocksdb = { version = "=\([0-9.]*\)".*/\1/p' "$here/rocksdb/Cargo.toml")
inputs=$(
    cat "$here/rocksdb/Cargo.toml" "$here/rocksdb/Cargo.lock"
    echo "${CXX:-c++} $("${CXX:-c++}" -dumpfullversion 2>/dev/null || true)"
    echo "${CFLAGS:-} ${CXXFLAGS:-} ${RUSTFLAGS:-} ${CARGO_ENCODED_RUSTFLAGS:-}"
)
key="$version-$(uname -m)-$(printf '%s' "$inputs" | sha256sum | cut -c1-12)"
lib="$cache/rocksdb/$key/lib"

if [ "${1:-}" = "--where" ]; then
    echo "$lib"
    exit 0
fi

say() { echo "setup: $*" >&2; }

# For people who call cargo themselves: a short name for the newest archive.
point_short_name_here() {
    ln -sfn "$key/lib" "$cache/rocksdb/lib.$$"
    mv -T "$cache/rocksdb/lib.$$" "$cache/rocksdb/lib"
}

if [ -f "$lib/librocksdb.a" ]; then
    [ -e "$cache/rocksdb/lib" ] || point_short_name_here
    echo "$lib"
    exit 0
fi

mkdir -p "$cache/rocksdb"
exec 9>"$cache/rocksdb/lock"
if ! flock --nonblock 9; then
    say "another process is compiling RocksDB, waiting for it"
    flock 9
fi
if [ -f "$lib/librocksdb.a" ]; then # the other process was building the same archive
    echo "$lib"
    exit 0
fi

cores=$(nproc)
say "compiling RocksDB $version once, about $((34 / cores)) minutes on $cores cores"
build="$cache/rocksdb-build"
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

progress() {
    local waited=0
    while sleep 2; do # short, so that nothing lingers when the build ends
        waited=$((waited + 2))
        [ $((waited % 20)) -eq 0 ] || continue
        objects=$(find "$build" -path '*librocksdb-sys-*' -name '*.o' 2>/dev/null | wc -l)
        say "compiling RocksDB: $objects of about 345 files"
    done
}
progress 9>&- >/dev/null &
reporter=$!
trap 'rm -f "$messages"; kill "$reporter" 2>/dev/null || true' EXIT

# Cargo's own settings of the caller are for the workspace, not for this archive.
(
    cd "$here/rocksdb"
    env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u CARGO_TARGET_DIR \
        cargo build --release --locked --quiet --target-dir "$build" \
        --message-format=json-render-diagnostics
) 9>&- >"$messages"

out=$(sed -n 's/.*#librocksdb-sys@.*"out_dir":"\([^"]*\)".*/\1/p' "$messages" | tail -n 1)
if [ ! -f "$out/librocksdb.a" ]; then
    say "cargo built no librocksdb.a (looked in '$out')"
    exit 1
fi

# A crash between these steps leaves a directory that nobody looks at, never half an archive.
mkdir -p "$lib"
cp "$out/librocksdb.a" "$lib/librocksdb.a.$$"
sync "$lib/librocksdb.a.$$"
mv "$lib/librocksdb.a.$$" "$lib/librocksdb.a"
point_short_name_here
rm -rf "$build"
say "RocksDB $version is ready in $lib"
echo "$lib"
