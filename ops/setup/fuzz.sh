#!/usr/bin/env bash
# Fuzzes every target for some seconds each, from its corpus; what crashes is kept and named.
#
#   ops/setup/fuzz.sh SECONDS [TARGET...]
#
# Coverage counters need a nightly compiler: `rustup toolchain install nightly`, or any other one named
# in PLATBOOK_NIGHTLY. What is new in a corpus is reduced to what adds coverage, and can be committed.
set -euo pipefail

seconds=$1
shift
version=0.13.2
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
nightly=${PLATBOOK_NIGHTLY:-nightly}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$cache/bin:$PATH"
export ROCKSDB_LIB_DIR=${ROCKSDB_LIB_DIR:-$("$root/ops/setup/rocksdb.sh")} ROCKSDB_STATIC=1

say() { echo "fuzz: $*" >&2; }

if ! rustc "+$nightly" --version >/dev/null 2>&1; then
    say "needs a nightly compiler, and there is no toolchain \"$nightly\""
    say "install one with \`rustup toolchain install nightly\`, or name yours in PLATBOOK_NIGHTLY"
    exit 2
fi
if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
    say "installing cargo-fuzz $version once, a minute"
    # Without CARGO_TARGET_DIR: it is built apart from the workspace.
    env -u CARGO_TARGET_DIR cargo install cargo-fuzz --quiet --locked --version "$version" --root "$cache"
fi

fuzz="$root/chaos-tests/fuzz"
export CARGO_TARGET_DIR="$cache/fuzz-target"
"$root/ops/setup/checkout.sh" "$CARGO_TARGET_DIR"
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(sed -n 's/^name = "\([a-z]*\)"$/\1/p' "$fuzz/Cargo.toml")
fi
# No unsafe code of ours: without a sanitizer the same time tries many more inputs.
run() { cargo "+$nightly" fuzz "$1" --fuzz-dir "$fuzz" --sanitizer none "${@:2}"; }

failed=()
for target in "${targets[@]}"; do
    say "$target, $seconds s"
    corpus="$fuzz/corpus/$target"
    mkdir -p "$corpus"
    run run "$target" "$corpus" -- -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 || failed+=("$target")
    run cmin "$target" "$corpus" >/dev/null
done
if [ ${#failed[@]} -gt 0 ]; then
    say "found something in: ${failed[*]}; inputs are in $fuzz/artifacts"
    exit 1
fi
say "nothing found in ${#targets[@]} targets"
