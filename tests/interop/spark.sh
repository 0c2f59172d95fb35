#!/usr/bin/env bash
# The Spark example on the bundled broker and on Apache Kafka (`spark.sh bundled` or `spark.sh kafka` for one of them).
# Exits 77, and says why, where Spark cannot be had; where only Kafka cannot, that is said and left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target="${CARGO_TARGET_DIR:-$root/target}"
which=${1:-both}

"$root/examples/spark/install.sh" "$target/interop/spark"
if [ "$which" != kafka ]; then
  "$root/examples/spark/run.sh"
fi
if [ "$which" != bundled ]; then
  dir="$target/apache-kafka/run-spark"
  "$here/apache-kafka/kafka.sh" libs > /dev/null || { echo "LEFT OUT Spark on Apache Kafka: its jars cannot be had here (see above)" >&2; exit 0; }
  started=$("$here/apache-kafka/kafka.sh" start --dir "$dir")
  trap '"$here/apache-kafka/kafka.sh" stop --dir "$dir"' EXIT
  export "${started?}"
  "$root/examples/spark/run.sh"
fi
