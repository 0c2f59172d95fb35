#!/usr/bin/env bash
# Installs Spark into target/ if need be and runs the example, on bundled brokers or on the cluster that KAFKA_BOOTSTRAP names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir="${CARGO_TARGET_DIR:-$root/target}/interop/spark"
"$here/install.sh" "$dir"

# What a killed Spark leaves behind, and its checkpoint.
export TMPDIR="$dir/scratch"
rm -rf "$TMPDIR"; mkdir -p "$TMPDIR"
export PYSPARK_PYTHON="$dir/venv/bin/python"
# What a cluster would get by `spark-submit`; one machine with two threads stands for it here.
submit="$dir/venv/bin/spark-submit --master local[2] --conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1"
submit+=" --conf spark.local.dir=$TMPDIR --conf spark.log.level=ERROR --conf spark.ui.enabled=false --conf spark.sql.session.timeZone=UTC --conf spark.sql.shuffle.partitions=2"
submit+=" --driver-java-options -XX:TieredStopAtLevel=1 --jars $(echo "$dir"/jars/*.jar | tr ' ' ',') $here/log_counts.py"
SPARK_SUBMIT=$submit exec cargo run -q --manifest-path "$root/Cargo.toml" -p examples --example spark
