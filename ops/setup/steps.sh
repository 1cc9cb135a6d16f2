#!/usr/bin/env bash
# Runs named steps in order, stops at the first that fails, and closes with one line that says how
# it went, so that the end of a long log is enough to know.
#
#   ops/setup/steps.sh TITLE NAME COMMAND [NAME COMMAND]...
set -uo pipefail

title=$1
shift
done_names=()
SECONDS=0
while [ $# -ge 2 ]; do
    name=$1 command=$2
    shift 2
    from=$SECONDS
    printf '\n==> %s: %s\n    %s\n' "$title" "$name" "$command"
    bash -euo pipefail -c "$command"
    code=$?
    if [ "$code" -ne 0 ]; then
        printf '\n%s: FAILED at "%s" (exit %d) after %d s\n' "$title" "$name" "$code" "$SECONDS"
        exit "$code"
    fi
    done_names+=("$name $((SECONDS - from)) s")
done
printf '\n%s: PASSED in %d s: ' "$title" "$SECONDS"
printf '%s' "${done_names[0]}"
printf ', %s' "${done_names[@]:1}"
printf '\n'
