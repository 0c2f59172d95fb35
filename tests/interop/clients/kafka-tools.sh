#!/usr/bin/env bash
# Kafka's command line tools, called by their main methods in one JVM: `kafka-tools.sh install DIR` fetches their jars and
# compiles java/tools/, `kafka-tools.sh run DIR BOOTSTRAP PREFIX [SCENARIO…]` runs the scenarios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=4.3.1 command=$1 dir=$2
libs() { "$here/../apache-kafka/kafka.sh" libs --version "$version"; }

case "$command" in
  install)
    for tool in java javac mvn; do
      command -v "$tool" > /dev/null || { echo "SKIPPED: $tool is not on this machine" >&2; exit 77; }
    done
    libs=$(libs) || { echo "SKIPPED: the jars of Kafka $version could not be fetched" >&2; exit 77; }
    # The tools tell some errors only to their log; with this it goes to stderr, as their scripts let it.
    [ -e "$dir/slf4j-simple-1.7.36.jar" ] || mvn -q -B dependency:copy -Dartifact=org.slf4j:slf4j-simple:1.7.36 -DoutputDirectory="$dir" >&2
    rm -rf "$dir/classes"; mkdir -p "$dir/classes"
    javac -nowarn -d "$dir/classes" -cp "$libs/*" "$here"/java/tools/*.java "$here/java/Report.java"
    ;;
  run)
    libs=$(libs) path=$dir/classes:$dir/slf4j-simple-1.7.36.jar
    for jar in "$libs"/*.jar; do case $jar in */kafka-tools-4*) tools=$jar ;; *) path+=:$jar ;; esac; done
    shift 2
    exec java -Xmx384m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
      -Dtools.jar="$tools" -cp "$path" ToolScenarios "$dir" "$@"
    ;;
esac
