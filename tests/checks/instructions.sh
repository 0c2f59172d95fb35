#!/usr/bin/env bash
# What a record costs in instructions, under callgrind, so that a gain cannot get lost unseen: for each workload of
# benches/src/bin/instructions.rs no more than its bound. Instructions are the same on a busy machine; time is not.
#   instructions.sh [NAME…]   all workloads, or those named
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v valgrind >/dev/null || { echo "SKIPPED: valgrind is not on this machine, so no instructions were counted"; exit 77; }
cargo build -q --release --locked -p benches --bin instructions
program="${CARGO_TARGET_DIR:-target}/release/instructions"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
failed=0
while read -r name bound records; do
  [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
  if ! valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect='*measured*' "$program" "$name" 2>"$work/log"; then
    echo "FAILED $name could not be run:"; tail -n 20 "$work/log"; failed=1; continue
  fi
  each=$(awk -v records="$records" '/Collected/ {printf "%d", $NF / records}' "$work/log")
  if [ "${each:-0}" = 0 ]; then echo "FAILED $name: nothing was counted"; failed=1
  elif [ "$each" -gt "$bound" ]; then echo "FAILED $name: $each instructions a record, at most $bound"; failed=1
  else echo "ok     $name: $each instructions a record, at most $bound"; fi
done < <("$program")
exit $failed
