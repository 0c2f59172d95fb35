#!/usr/bin/env bash
# Each client crate's default dependency tree, build dependencies included, is 82 crates or fewer, and nothing in it
# compiles C but ring (the TLS provider).
set -euo pipefail
cd "$(dirname "$0")/../.."
limit=82 failed=0
for crate in kafka-wire kafka-client kafka-producer kafka-consumer kafka-admin; do
  tree=$(cargo tree --locked -q -p "$crate" -e normal,build --prefix none --no-dedupe | awk '{print $1, $2}' | sort -u)
  count=$(echo "$tree" | wc -l)
  # A crate that compiles C depends on one of these to do it, or is a -sys crate.
  c=$(for builder in cc cmake bindgen; do
        echo "$tree" | grep -q "^$builder " && cargo tree --locked -q -p "$crate" -e normal,build -i "$builder" --prefix depth --depth 1 | sed -n 's/^1\([^ ]*\).*/\1/p'
      done | sort -u | grep -vx ring || true)
  sys=$(echo "$tree" | awk '{print $1}' | grep -E -- '-sys$' | grep -vxE 'linux-raw-sys|windows-sys|js-sys|web-sys' || true)
  if [ "$count" -le $limit ] && [ -z "$c$sys" ]; then echo "ok     $crate: $count crates, no C beyond ring"
  else echo "FAILED $crate: $count crates (at most $limit); compile C: ${c:-none} ${sys}"; failed=1; fi
done
exit $failed
