#!/usr/bin/env bash
# Fetches Kafka's Java client from Maven Central and compiles the driver against it, into benches/compare/target/java.
# Says on stdout how it is started, a word a line.
set -euo pipefail
cd "$(dirname "$0")"
out=$(cd ../.. && pwd)/target/java
for tool in java javac mvn; do
  command -v "$tool" > /dev/null || { echo "$tool is not on this machine" >&2; exit 1; }
done
mkdir -p "$out"
# Again only when the versions change.
if ! cmp -s pom.xml "$out/pom.xml"; then
  rm -rf "$out/jars" "$out/pom.xml"
  mvn -q -B -f pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$out/jars" >&2
  cp pom.xml "$out/pom.xml"
fi
rm -rf "$out/classes" "$out/tests"
javac -Xlint:all -Werror -d "$out/classes" -cp "$out/jars/*" src/*.java
# With other records than the other drivers' it would measure something else.
javac -Xlint:all -Werror -d "$out/tests" -cp "$out/classes" test/*.java
java -cp "$out/classes:$out/tests" TableTest
# How to start it. The JVM chooses heap and collector itself, by the cores that it may use.
printf '%s\n' java -cp "$out/classes:$out/jars/*" Driver
