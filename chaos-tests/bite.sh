#!/usr/bin/env bash
# Shows that the checks bite: plants one bug after the other and runs the check that must catch it.
# One build; the bug is chosen at run time. A check that passes with its bug is a failure of this run.
# Then the simulation looks for those that a cluster can show, seed by seed, without being told where.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
seconds_max=${BITE_SECONDS_MAX:-600}

# bug | target of `cargo test --workspace` | test
checks=$(
    cat <<'END'
ack-before-sync         --lib           log::tests::model::any_crash_leaves_a_prefix_that_holds_everything_acknowledged
volatile-vote           --lib           raft::tests::the_storage_suite_of_openraft_passes_on_the_real_store
stale-read              --test=cut_off  a_leader_that_most_nodes_left_acknowledges_nothing_and_answers_no_read
endless-lease           --test=cut_off  a_leader_that_most_nodes_left_acknowledges_nothing_and_answers_no_read
sync-error-dropped      --lib           log::tests::disk_faults::a_failed_sync_poisons_the_whole_log_for_good
applied-apart           --lib           store::tests::recovery::after_a_crash_at_any_entry_the_log_from_the_flushed_position_gives_the_same_state
apply-ahead-of-sync     --lib           raft::tests::nothing_is_applied_before_this_replicas_own_log_has_it
quorum-off-by-one       --test=cut_off  a_leader_that_most_nodes_left_acknowledges_nothing_and_answers_no_read
retry-under-new-key     --lib           write::tests::every_attempt_of_a_write_carries_the_time_of_the_first
seq-off-by-one          --lib           store::tests::model::random_operations_do_what_the_naive_model_does
snapshot-of-two-states  --lib           store::tests::snapshot::a_snapshot_is_of_its_moment
replica-id-reused       --test=cluster  a_wiped_node_is_refused_and_comes_back_only_with_rejoin
checksum-ignored        --lib           log::tests::damage::any_byte_flipped_before_the_last_round_refuses
foreign-token           --lib           token::tests::each_fault_has_its_own_code
END
)

# What simulated clusters show, within so many seeds.
simulated="ack-before-sync volatile-vote stale-read sync-error-dropped applied-apart
    apply-ahead-of-sync quorum-off-by-one seq-off-by-one"
seeds_max=${BITE_SEEDS_MAX:-40}

build() { cargo test --locked --workspace --features platbook-protocol/planted-bugs "$@"; }

echo "bite: compiling once, with all bugs, none of them chosen"
build --lib --test cut_off --test cluster --no-run --quiet
now() { date +%s.%N; }
# Runs one check; its result is that of the test itself, not of those that it filters out.
check() {
    local bug=$1 target=$2 test=$3
    PLATBOOK_BUG=$bug timeout "$seconds_max" \
        cargo test --locked --workspace --features platbook-protocol/planted-bugs "$target" --quiet \
        -- --exact "$test" 2>&1
}

missed=0
count=0
printf '%-24s %-9s %7s  %s\n' BUG RESULT SECONDS CHECK
while read -r bug target test; do
    count=$((count + 1))
    begun=$(now)
    # The check itself must be sound, and be found under its name.
    if ! said=$(check "" "$target" "$test") || ! grep -q '1 passed' <<<"$said"; then
        printf '%-24s %-9s %7s  %s\n' "$bug" "unsound" - "$test: fails or is not found without a bug"
        missed=$((missed + 1))
        continue
    fi
    begun=$(now)
    if said=$(check "$bug" "$target" "$test"); then
        result=MISSED
        missed=$((missed + 1))
    elif grep -q "$test" <<<"$said"; then
        result=caught
    else
        result=BROKEN
        missed=$((missed + 1))
    fi
    took=$(awk -v a="$begun" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }')
    printf '%-24s %-9s %7s  %s\n' "$bug" "$result" "$took" "$test"
done <<<"$checks"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd chaos-tests/sim && cargo build --locked --quiet --features planted-bugs)
cp "$CARGO_TARGET_DIR/debug/platbook-sim" "$work/" # `make sim` has its own under that name
simulation() { # BUG SEED: fails, and says why, where the simulation finds something
    PLATBOOK_BUG=$1 RUST_LOG=off timeout "$seconds_max" \
        "$work/platbook-sim" run --json --seed "$2" 2>/dev/null
}
# The first thing that was found wrong, short; a run that could not even end says nothing.
first_violation() { sed -n 's/.*"violations":\["\([^"]*\).*/\1/p' <<<"$1" | cut -c1-100; }

for bug in $simulated; do
    count=$((count + 1))
    begun=$(now)
    seed=1
    while [ "$seed" -le "$seeds_max" ] && said=$(simulation "$bug" "$seed"); do seed=$((seed + 1)); done
    took=$(awk -v a="$begun" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }')
    if [ "$seed" -gt "$seeds_max" ]; then
        result=MISSED
        what="simulation: nothing in $seeds_max seeds"
    elif simulation "" "$seed" >/dev/null; then
        result=caught
        what="simulation, seed $seed: $(first_violation "$said")"
    else
        result=unsound
        what="simulation, seed $seed: fails without a bug"
    fi
    [ "$result" = caught ] || missed=$((missed + 1))
    printf '%-24s %-9s %7s  %s\n' "$bug" "$result" "$took" "$what"
done
echo "bite: $((count - missed)) of $count checks caught their bug"
[ "$missed" -eq 0 ]
