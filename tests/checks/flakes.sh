#!/usr/bin/env bash
# Runs the end-to-end suite N times (default 20) and stops at the first failure; each run must take under 90 s.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-20}
cargo test -q -p e2e --no-run
for run in $(seq "$runs"); do
  from=$SECONDS
  cargo test -q -p e2e --test e2e > target/flakes.log 2>&1 || { echo "run $run of $runs failed:"; tail -n 80 target/flakes.log; exit 1; }
  took=$((SECONDS - from))
  echo "run $run of $runs: ${took}s"
  [ $took -lt 90 ] || { echo "run $run took ${took}s: the suite's limit is 90 s"; exit 1; }
done
echo "$runs runs, no failure"
