#!/usr/bin/env bash
# Runs the driver that build.sh has made. The JVM chooses heap and collector itself, by the cores that it may use.
out=$(cd "$(dirname "$0")/../.." && pwd)/target/java
exec java -cp "$out/classes:$out/jars/*" Driver "$@"
