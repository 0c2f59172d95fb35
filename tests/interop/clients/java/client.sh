#!/usr/bin/env bash
# Kafka's Java client, of the version given first: `client.sh VERSION install DIR` fetches its jars and compiles the programs here against
# them, `client.sh VERSION run DIR BOOTSTRAP PREFIX [SCENARIO…]` runs the scenarios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$1 command=$2 dir=$3

# The client and what it needs; nothing of the broker.
class_path() {
  local libs jar out=$dir/classes
  libs=$("$here/../../apache-kafka/kafka.sh" libs --version "$version")
  for jar in "$libs"/{kafka-clients,lz4-java,snappy-java,zstd-jni,slf4j-api,jackson-core,jackson-databind,jackson-annotations}-*.jar; do out+=:$jar; done
  echo "$out"
}

case "$command" in
  install)
    for tool in java javac mvn; do
      command -v "$tool" > /dev/null || { echo "SKIPPED: $tool is not on this machine" >&2; exit 77; }
    done
    path=$(class_path) || { echo "SKIPPED: the jars of Kafka $version could not be fetched" >&2; exit 77; }
    sources=("$here"/*.java)
    case "$version" in 4.*) sources+=("$here"/kafka-4/*.java) ;; esac
    rm -rf "$dir/classes"; mkdir -p "$dir/classes"
    javac -nowarn -d "$dir/classes" -cp "$path" "${sources[@]}" 2> "$dir/javac.log" || { cat "$dir/javac.log" >&2; exit 1; }
    ;;
  run)
    shift 3
    exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$(class_path)" Interop "$@"
    ;;
esac
