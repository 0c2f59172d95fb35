#!/usr/bin/env bash
# Installs PySpark and its Kafka connector into a folder (about 900 MB), once. Exits 77, and says why, where that cannot be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
[ -e "$dir/.complete" ] && exit 0
for tool in java mvn python3; do
  command -v "$tool" > /dev/null || { echo "SKIPPED: $tool is not on this machine" >&2; exit 77; }
done
rm -rf "$dir"; mkdir -p "$dir"
mvn -q -B -f "$here/connector.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
  -DincludeScope=runtime -DoutputDirectory="$dir/jars" > "$dir/mvn.log" 2>&1 &
connector=$!
python3 -m venv "$dir/venv" && "$dir/venv/bin/pip" install -q --disable-pip-version-check pyspark==4.2.0 > "$dir/pip.log" 2>&1 \
  || { tail -n 5 "$dir/pip.log" >&2; echo "SKIPPED: PySpark could not be installed" >&2; exit 77; }
wait $connector || { tail -n 5 "$dir/mvn.log" >&2; echo "SKIPPED: Spark's Kafka connector could not be fetched" >&2; exit 77; }
touch "$dir/.complete"
