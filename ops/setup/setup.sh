#!/usr/bin/env bash
# Installs what a fresh Debian 12 or newer with Rust lacks for building and testing Platbook; does
# nothing, in well under a second, when nothing is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
# Where a user's own PATH may not look for what the administrator uses.
PATH=$PATH:/usr/sbin:/sbin

say() { echo "setup: $*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# bindgen loads libclang at build time. The names are those that it looks for: `libclang-cpp.so`,
# which comes with other packages, is not one of them.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] ||
        compgen -G '/usr/lib/llvm*/lib/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/llvm*/lib/libclang-[0-9]*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null
}

system_packages() {
    local missing=()
    have c++ || missing+=(g++)
    have_libclang || missing+=(libclang-dev)
    have strace || missing+=(strace)     # injects disk errors into nodes under test
    have curl || missing+=(curl)
    have mkfs.ext4 || missing+=(e2fsprogs) # a disk for each node under test, to be filled
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null ||
        missing+=(libfaketime)             # a clock for each node under test, to be wrong
    have nft || missing+=(nftables)        # loses packets between processes under test
    have ip || missing+=(iproute2)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0

    local install="apt-get install --yes --no-install-recommends ${missing[*]}"
    have apt-get || die "missing: ${missing[*]} (names of Debian packages); please install them"
    if [ "$(id -u)" -eq 0 ]; then
        say "installing ${missing[*]}"
        apt-get update --quiet=2
        DEBIAN_FRONTEND=noninteractive $install --quiet=2
    elif have sudo && sudo -n true 2>/dev/null; then
        say "installing ${missing[*]} with sudo"
        sudo apt-get update --quiet=2
        sudo DEBIAN_FRONTEND=noninteractive $install --quiet=2
    else
        die "missing: ${missing[*]}; please run: sudo $install"
    fi
}

rust() {
    have cargo || die "Rust is missing; see https://rustup.rs, then run this again"
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 ||
            { have rustup && rustup component add "${component/fmt/rustfmt}" >&2; } ||
            die "cargo $component is missing; please run: rustup component add ${component/fmt/rustfmt}"
    done
}

# The independent SQS server that the ingester is tested against, and a client of event streams.
python_tools() {
    local wanted="$here/python-requirements.txt" venv="$cache/venv"
    cmp -s "$wanted" "$venv/installed.txt" && return 0
    mkdir -p "$cache"
    exec 8>"$cache/venv.lock"
    flock 8
    if cmp -s "$wanted" "$venv/installed.txt"; then return 0; fi
    say "installing the Python tools of the tests into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --requirement "$wanted" >&2
    cp "$wanted" "$venv/installed.txt" # last: it says that the rest is complete
    exec 8>&-
}

system_packages
rust
python_tools
"$here/rocksdb.sh" >/dev/null
"$here/checkout.sh" "${CARGO_TARGET_DIR:-$cache/target}"
