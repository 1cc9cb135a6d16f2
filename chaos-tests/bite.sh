#!/usr/bin/env bash
# Shows that the checks bite: plants one bug after the other and runs the check that must catch it.
# One build; the bug is chosen at run time. A check that passes with its bug is a failure of this run.
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
echo "bite: $((count - missed)) of $count bugs caught"
[ "$missed" -eq 0 ]
