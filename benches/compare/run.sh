#!/usr/bin/env bash
# Measures, then renders benches/RESULTS.md and its plots, also when some run failed. Options are those of `compare run`.
set -uo pipefail
cd "$(dirname "$0")"
compare() { cargo run --quiet --release --locked -p harness -- "$@"; }
compare run "$@"; code=$?
compare report || code=1
exit $code
