#!/usr/bin/env bash
# kcat (Debian's, librdkafka 2.0.2) against the kafka-broker binary: list, produce, consume, consume in a group with -G,
# query by time. Exits 0 when all hold, 1 when one does not, 77 when kcat cannot be had.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
broker="${KAFKA_BROKER_BINARY:-${CARGO_TARGET_DIR:-$root/target}/debug/kafka-broker}"

if ! command -v kcat >/dev/null; then
  { apt-get update && apt-get install -y --no-install-recommends kcat; } >/dev/null 2>&1 || true
fi
command -v kcat >/dev/null || { echo "SKIPPED kcat: not installed, and Debian's package could not be installed" >&2; exit 77; }

work=$(mktemp -d)
"$broker" --port 0 --brokers 3 --topic orders:3:3 > "$work/stdout" 2> "$work/stderr" &
pid=$!
trap 'kill $pid 2>/dev/null || true; wait $pid 2>/dev/null || true; rm -rf "$work"' EXIT

deadline=$((SECONDS + 10))
until grep -q '^listening on ' "$work/stdout"; do
  kill -0 $pid 2>/dev/null && [ $SECONDS -lt $deadline ] || { echo "FAILED the broker did not start:"; cat "$work/stderr"; exit 1; }
done
bootstrap=$(sed -n 's/^listening on //p' "$work/stdout" | head -n 1)

failed=0 passed=0
check() { # name, expected, actual
  if [ "$2" = "$3" ]; then echo "ok     kcat: $1"; passed=$((passed + 1))
  else echo "FAILED kcat: $1"; diff <(echo "$2") <(echo "$3") | head -n 20; failed=$((failed + 1)); fi
}
k() { timeout 30 kcat -b "$bootstrap" "$@" 2>> "$work/kcat.log" || echo "kcat $* exited $?"; }

check "-L lists three brokers" 3 "$(k -L | grep -cE '^  broker [0-9]+ at ')"
for codec in none gzip snappy lz4 zstd; do
  seq -f "$codec-%g" 1 200 | k -P -t orders -z "$codec" > /dev/null
done
expected=$(for codec in gzip lz4 none snappy zstd; do seq -f "$codec-%g" 1 200; done | sort)
check "-C reads back every codec" "$expected" "$(k -C -t orders -o beginning -e -q | sort)"
check "-G reads the topic as a group" "$expected" "$(k -G readers -X auto.offset.reset=earliest -e -q orders | sort)"
check "-G resumes from the commit" "" "$(k -G readers -X auto.offset.reset=earliest -e -q orders)"
printf 'k1:v1\nk2:v2\n' | k -P -t pairs -K: -p 0 -H 'a=1' -H 'a=2' > /dev/null
check "keys and duplicate headers survive" $'k1=v1 [a=1,a=2]\nk2=v2 [a=1,a=2]' "$(k -C -t pairs -p 0 -o beginning -e -q -f '%k=%s [%h]\n')"
check "-Q finds an offset by time" "pairs [0] offset 0" "$(k -Q -t pairs:0:1)"

kill -TERM $pid; code=0; wait $pid || code=$?
check "the broker stops cleanly on SIGTERM" 0 "$code"
[ $failed = 0 ] || { echo "--- kcat's own words:"; tail -n 20 "$work/kcat.log"; }
echo "kcat: $passed passed, $failed failed"
[ $failed = 0 ]
