#!/usr/bin/env bash
# Runs the tests on real Apache Kafka: `run.sh 1` the whole test command on one node, which has a listener for each security
# protocol too, `run.sh 3` the end-to-end suite on three, `run.sh 1 3.9.2` the end-to-end suite on one node of that version.
# Exits 77, and says why, where Apache Kafka cannot be fetched or started.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
nodes=${1:-1} version=${2:-}
dir="${CARGO_TARGET_DIR:-$root/target}/apache-kafka/run-$nodes$version"

fetched() { "$here/kafka.sh" libs "$@" || { code=$?; echo "SKIPPED Apache Kafka: its jars cannot be had here (see above)" >&2; [ $code -ge 3 ] && exit 77; exit "$code"; }; }
[ -z "$version" ] || fetched --version "$version" > /dev/null
# The Java client that tests use is the newest one, whatever the broker.
KAFKA_LIBS=$(fetched)
export KAFKA_LIBS
cd "$root"
secured=()
if [ "$nodes" = 1 ] && [ -z "$version" ]; then
  export KAFKA_SECURED="$dir-secured"
  cargo run -q -p e2e --bin secured-files "$KAFKA_SECURED"
  secured=(--secured "$KAFKA_SECURED")
fi
started=$("$here/kafka.sh" start --nodes "$nodes" ${version:+--version "$version"} --dir "$dir" "${secured[@]}")
trap '"$here/kafka.sh" stop --dir "$dir"' EXIT
export "${started?}"
echo "Apache Kafka ${version:-of the newest version}, $nodes node(s): $started"
if [ "$nodes" = 1 ] && [ -z "$version" ]; then cargo test --workspace; else cargo test -p e2e; fi
