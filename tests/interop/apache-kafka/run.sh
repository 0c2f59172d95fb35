#!/usr/bin/env bash
# Runs the tests on real Apache Kafka: `run.sh 1` the whole test command on one node, `run.sh 3` the end-to-end suite on three.
# Exits 77, and says why, where Apache Kafka cannot be fetched or started.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
nodes=${1:-1}
dir="${CARGO_TARGET_DIR:-$root/target}/apache-kafka/run-$nodes"

"$here/kafka.sh" libs > /dev/null || { code=$?; echo "SKIPPED Apache Kafka: its jars cannot be had here (see above)" >&2; [ $code -ge 3 ] && exit 77; exit "$code"; }
started=$("$here/kafka.sh" start --nodes "$nodes" --dir "$dir")
KAFKA_LIBS=$("$here/kafka.sh" libs)
export KAFKA_LIBS
trap '"$here/kafka.sh" stop --dir "$dir"' EXIT
export "${started?}"
echo "Apache Kafka, $nodes node(s): $started"
cd "$root"
if [ "$nodes" = 1 ]; then cargo test --workspace; else cargo test -p e2e; fi
