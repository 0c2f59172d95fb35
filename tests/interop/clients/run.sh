#!/usr/bin/env bash
# Other people's clients on the bundled broker: installs each, runs its scenarios, prints the matrix, fails on any failure.
#
#   run.sh [CLIENT…]      all of them without names
#
# Each CLIENT.sh here has two commands: `install DIR` (exit 77 and a line `SKIPPED: why` when it cannot be had) and
# `run DIR BOOTSTRAP PREFIX`, which prints `PASS scenario`, `FAIL scenario: why`, `SKIP scenario: what the client lacks` or
# `NOT_SERVED scenario: what the broker lacks` for every scenario. With KAFKA_BOOTSTRAP they run on that cluster instead, and with
# SECURED they find how to get in where it demands to know who asks: a folder with ca.pem, alice.pem and alice.key, other/ with the same
# of an authority that the brokers do not know, `users` (name=password) and `listeners` (name=host:port,…). The plaintext listener
# lets everybody do everything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target="${CARGO_TARGET_DIR:-$root/target}"
work="$target/interop"
mkdir -p "$work"

scenarios=(admin codecs stored-codecs idempotent group cooperative commit-resume offsets-for-times headers large seek
  delete-records spark-pattern transactions kip-848 sasl tls acls share-groups)
clients=("$@")
[ $# -gt 0 ] || clients=(java-4.3.1 java-3.9.2 kafka-tools confluent-kafka kcat kafka-python aiokafka kafkajs platformatic franz-go)
install_timeout=600 run_timeout=180

(cd "$root" && cargo build -q -p kafka-broker -p e2e --bins)
if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
  bootstrap=$KAFKA_BOOTSTRAP
else
  export SECURED="$work/secured"
  rm -rf "$SECURED"
  "$target/debug/kafka-broker" test-ca "$SECURED" --client alice
  "$target/debug/kafka-broker" test-ca "$SECURED/other" --client alice
  printf '%s\n' admin=admin-secret alice=alice-secret bob=bob-secret > "$SECURED/users"
  cat > "$SECURED/broker.toml" <<'TOML'
brokers = 3
port = 0
sasl = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
super_users = ["User:ANONYMOUS", "User:admin"]
config = { "num.partitions" = 3, "allow.everyone.if.no.acl.found" = true }
tls = { certificate = "server.pem", key = "server.key", client_ca = "ca.pem" }
listener = [
  { name = "PLAINTEXT", protocol = "PLAINTEXT" },
  { name = "SSL", protocol = "SSL" },
  { name = "MTLS", protocol = "SSL", client_auth = "required" },
  { name = "SASL_PLAINTEXT", protocol = "SASL_PLAINTEXT" },
  { name = "SASL_SSL", protocol = "SASL_SSL" },
]
TOML
  "$target/debug/kafka-broker" --file "$SECURED/broker.toml" --users "$SECURED/users" > "$work/broker.stdout" 2> "$work/broker.log" &
  broker=$!
  trap 'kill $broker 2>/dev/null || true; wait $broker 2>/dev/null || true' EXIT
  deadline=$((SECONDS + 10))
  until grep -q '^listening on ' "$work/broker.stdout"; do
    kill -0 $broker 2>/dev/null && [ $SECONDS -lt $deadline ] || { echo "the broker did not start:"; cat "$work/broker.log"; exit 1; }
  done
  # The first listener's line is without its name.
  sed -n '1 s/^listening on /PLAINTEXT=/p; 2,$ s/^listening on \([^ ]*\) /\1=/p' "$work/broker.stdout" > "$SECURED/listeners"
  bootstrap=$(sed -n 's/^PLAINTEXT=//p' "$SECURED/listeners")
fi

# stored PREFIX: whether the codec topics of a client hold batches of that codec and no other.
stored() {
  local codec found
  for codec in none gzip snappy lz4 zstd; do
    found=$("$target/debug/stored-codecs" "$bootstrap" "$1-codec-$codec" 2>&1 | paste -sd+) || true
    [ "$found" = "$codec" ] || { echo "FAIL stored-codecs: $1-codec-$codec holds $found"; return; }
  done
  echo "PASS stored-codecs"
}

declare -A cell
passed=0 failed=0 skipped=0 not_served=0 left_out=()
for client in "${clients[@]}"; do
  dir="$work/$client" log="$work/$client.log" out="$work/$client.out" prefix="$client-$$" from=$SECONDS code=0
  mkdir -p "$dir"
  timeout $install_timeout "$here/$client.sh" install "$dir" > "$log" 2>&1 || code=$?
  if [ $code = 77 ]; then left_out+=("$client: $(grep -m1 '^SKIPPED' "$log" || echo 'no reason given')"); continue; fi
  if [ $code = 0 ]; then
    timeout $run_timeout "$here/$client.sh" run "$dir" "$bootstrap" "$prefix" > "$out" 2>> "$log" || code=$?
  else
    echo "FAIL install: exit code $code" > "$out"
  fi
  grep -qE '^(PASS|SKIP) codecs' "$out" && { if grep -q '^PASS codecs' "$out"; then stored "$prefix"; else echo "SKIP stored-codecs: none written"; fi; } >> "$out"
  for scenario in "${scenarios[@]}"; do
    line=$(grep -m1 -E "^[A-Z_]+ $scenario(:|$)" "$out" || echo "FAIL $scenario: not reported")
    case $line in
      PASS*) cell[$client,$scenario]=ok; passed=$((passed + 1)) ;;
      SKIP*) cell[$client,$scenario]=-; skipped=$((skipped + 1)) ;;
      NOT_SERVED*) cell[$client,$scenario]=ns; not_served=$((not_served + 1)) ;;
      *) cell[$client,$scenario]=FAIL; failed=$((failed + 1)); echo "$client: $line" ;;
    esac
  done
  echo "$client: $((SECONDS - from))s, exit code $code"
  if [ $code != 0 ] || grep -q '^FAIL' "$out"; then failed=$((failed + (code != 0))); echo "--- the end of $client's log:"; tail -n 40 "$log"; fi
done

echo
for index in "${!clients[@]}"; do printf '%18s = %s\n' "$index" "${clients[$index]}"; done
printf '%-18s' scenario; printf ' %4s' "${!clients[@]}"; echo
for scenario in "${scenarios[@]}"; do
  printf '%-18s' "$scenario"
  for index in "${!clients[@]}"; do printf ' %4s' "${cell[${clients[$index]},$scenario]:-none}"; done
  echo
done
echo "ok passed, - the client lacks it, ns the broker does not serve it, none the client could not be had"
for why in "${left_out[@]}"; do echo "LEFT OUT $why"; done
echo "interop: $passed passed, $failed failed, $skipped the client lacks, $not_served not served, ${#left_out[@]} clients left out"
[ $failed = 0 ]
