#!/usr/bin/env bash
# kcat 1.7.1 of Debian, on librdkafka 2.0.2: usefully old. `kcat.sh install DIR` and `kcat.sh run DIR BOOTSTRAP PREFIX [SCENARIO…]`.
set -euo pipefail
command=$1 dir=$2

if [ "$command" = install ]; then
  command -v kcat > /dev/null || { apt-get update && apt-get install -y --no-install-recommends kcat; } >&2 || true
  command -v kcat > /dev/null || { echo "SKIPPED: kcat is not installed, and Debian's package could not be" >&2; exit 77; }
  exit 0
fi

bootstrap=$3 prefix=$4
shift 4
only=" $* " work=$(mktemp -d) members=()

leave_all() { [ ${#members[@]} = 0 ] || kill "${members[@]}" 2> /dev/null || true; }
trap 'leave_all; rm -rf "$work"' EXIT

k() { timeout 30 kcat -b "$bootstrap" "$@" 2> >(tee "$work/stderr" >&2); }

# scenario NAME: runs the function of that name, which fails with a word on why in $work/reason.
scenario() {
  local name=$1 from=$SECONDS code=0
  [ "$only" = "  " ] || [[ $only == *" $name "* ]] || return 0
  echo "not all of its steps succeeded" > "$work/reason"
  # Not `if "$name"`: errexit would not hold within.
  set +e; (set -e; "$name" > "$work/output"); code=$?; set -e
  case $code in
    0) echo "PASS $name" ;;
    *) echo "FAIL $name: $(tail -n 1 "$work/reason"), exit code $code"; cat "$work/output" >&2 ;;
  esac
  echo "$name took $((SECONDS - from)) s" >&2
}

skip() { [ "$only" = "  " ] || [[ $only == *" $1 "* ]] || return 0; echo "SKIP $1: $2"; }
fail() { echo "$*" > "$work/reason"; return 1; }
equal() { [ "$1" = "$2" ] || { diff <(echo "$1") <(echo "$2") | head -n 10 >&2; fail "$3 differs"; }; }

eventually() { # what, command…
  local what=$1 deadline=$((SECONDS + 20)); shift
  until "$@"; do [ $SECONDS -lt $deadline ] || { fail "not within 20 s: $what"; return 1; }; sleep 0.05; done
}

# Tests of conditions within `eventually`.
lines_at_least() { local count=$1; shift; [ "$(cat "$@" | wc -l)" -ge "$count" ]; }
listed() { k -L -t "$@" | grep -q "^  topic \"$1\" with [1-9]"; }

read_all() { k -C -t "$1" -o beginning -e -q "${@:2}"; }

# Asking for metadata creates the topic; after that its records go to the partitions that the broker gives it.
topic() { eventually "$1 is created" listed "$@"; }

codecs() {
  local codec expected
  for codec in none gzip snappy lz4 zstd; do
    topic "$prefix-codec-$codec"
    # Long and alike, so that a batch of any size becomes shorter: librdkafka sends it plain otherwise.
    expected=$(seq -f "record %g of many that are all alike, of many that are all alike, of many that are all alike" 1 200)
    k -P -t "$prefix-codec-$codec" -p 0 -z "$codec" <<< "$expected"
    equal "$expected" "$(read_all "$prefix-codec-$codec")" "what codec $codec reads"
  done
}

idempotent() {
  local topic=$prefix-idempotent partition
  topic "$topic"
  for partition in 0 1 2; do seq $partition 3 1199 | k -P -t "$topic" -p $partition -X enable.idempotence=true; done
  for partition in 0 1 2; do
    equal "$(seq $partition 3 1199)" "$(read_all "$topic" -p $partition)" "partition $partition"
  done
}

# join NAME PROTOCOL: a member of the group whose records go to NAME.out, and what it is assigned to NAME.log.
join() {
  : > "$work/$1.out"
  kcat -b "$bootstrap" -G "$group" -u -X auto.offset.reset=earliest -X heartbeat.interval.ms=200 \
    -X partition.assignment.strategy="$2" "$topic" > "$work/$1.out" 2> "$work/$1.log" &
  members+=($!) pid[$1]=$!
}

leave() {
  kill -TERM "${pid[$1]}"
  wait "${pid[$1]}" || true
}

# owns NAME COUNT: whether a member has so many partitions, by what it says of rebalances: "assigned: t [0], t [1]" and "revoked: …"
# in the eager protocol, "incremental assignment of 1 partition(s) (…): t [0]" and "incremental revoke of …" in the cooperative one.
owns() {
  local count
  count=$(awk '/^% Group .* rebalanced/ {
      if (!/incremental/) split("", owned)
      list = $0; sub(/.*\): /, "", list)
      count = split(list, words, /[^0-9]*[[\]]/)
      for (i = 1; i <= count; i++) if (words[i] ~ /^[0-9]+$/) { if (/revoke/) delete owned[words[i]]; else owned[words[i]] }
    }
    END { for (partition in owned) n++; print n + 0 }' "$work/$1.log")
  [ "$count" = "$2" ]
}
share() { { owns "$1" 1 && owns "$2" 2; } || { owns "$1" 2 && owns "$2" 1; }; }

group() { rebalances group range; }
cooperative() { rebalances cooperative cooperative-sticky; }

# Two members share three partitions, one leaves, a third joins; every record is handed out once overall.
rebalances() {
  local topic=$prefix-$1 group=$prefix-$1 protocol=$2
  local -A pid=()
  topic "$topic"
  join first "$protocol"
  eventually "the first member has all" owns first 3
  join second "$protocol"
  eventually "two members share" share first second
  seq 0 199 | k -P -t "$topic"
  eventually "200 records are read" lines_at_least 200 "$work/first.out" "$work/second.out"
  leave first
  eventually "the second member has all" owns second 3
  seq 200 399 | k -P -t "$topic"
  eventually "400 records are read" lines_at_least 400 "$work/first.out" "$work/second.out"
  join third "$protocol"
  eventually "a third member shares" share second third
  seq 400 599 | k -P -t "$topic"
  eventually "600 records are read" lines_at_least 600 "$work/first.out" "$work/second.out" "$work/third.out"
  leave second
  leave third
  # Whoever comes later finds everything committed; a record of its own shows that it has read.
  join last "$protocol"
  eventually "the last member has all" owns last 3
  echo 600 | k -P -t "$topic"
  eventually "a new record is read" lines_at_least 1 "$work/last.out"
  leave last
  equal "$(seq 0 600)" "$(sort -n "$work"/{first,second,third,last}.out)" "what the members were handed out"
}

commit-resume() {
  local topic=$prefix-commit-resume group=$prefix-commit-resume
  topic "$topic"
  seq 0 99 | k -P -t "$topic" -p 0
  equal "$(seq 0 39)" "$(k -G "$group" -X auto.offset.reset=earliest -c 40 -q "$topic")" "the first 40"
  equal "$(seq 40 79)" "$(k -G "$group" -X auto.offset.reset=earliest -c 40 -q "$topic")" "the next 40"
  equal "$(seq 80 99)" "$(k -G "$group" -X auto.offset.reset=earliest -e -q "$topic")" "the rest"
  equal "" "$(k -G "$group" -X auto.offset.reset=earliest -e -q "$topic")" "what is left"
}

# The time of the brokers and of this machine is one: both are here.
now() { date +%s%3N; }

offsets-for-times() {
  local topic=$prefix-times between
  topic "$topic"
  seq 0 4 | k -P -t "$topic" -p 0
  between=$(($(now) + 1))
  eventually "the clock moves on" test_now "$between"
  seq 5 9 | k -P -t "$topic" -p 0
  equal "$topic [0] offset 0" "$(k -Q -t "$topic:0:1")" "the offset at time 1"
  equal "$topic [0] offset 5" "$(k -Q -t "$topic:0:$between")" "the offset between"
  equal "$topic [0] offset -1" "$(k -Q -t "$topic:0:$(($(now) + 60000))")" "the offset in the future"
  equal "$(seq 5 9)" "$(k -C -t "$topic" -p 0 -o "s@$between" -e -q)" "what is read from a time on"
}
test_now() { [ "$(now)" -ge "$1" ]; }

headers() {
  local topic=$prefix-headers
  topic "$topic"
  printf 'k1:v1\nk2:v2\n' | k -P -t "$topic" -p 0 -K: -H 'b=1' -H 'a=2' -H 'b=3' -H 'empty='
  printf 'tombstone:\n:v3\n' | k -P -t "$topic" -p 0 -K: -Z
  equal $'k1=v1 [b=1,a=2,b=3,empty=] 2\nk2=v2 [b=1,a=2,b=3,empty=] 2\ntombstone= [] -1\n=v3 [] 2' \
    "$(read_all "$topic" -p 0 -f '%k=%s [%h] %S\n')" "keys, values and headers"
}

large() {
  local topic=$prefix-large code=0
  topic "$topic"
  head -c 675000 /dev/urandom | base64 -w 0 > "$work/fits"
  head -c 2250000 /dev/urandom | base64 -w 0 > "$work/beyond"
  k -P -t "$topic" -p 0 -X message.max.bytes=5000000 "$work/fits"
  k -P -t "$topic" -p 0 -X message.max.bytes=5000000 "$work/beyond" || code=$?
  grep -q "Message size too large" "$work/stderr" || fail "3 MB was not refused with Message size too large, exit code $code"
  k -C -t "$topic" -p 0 -o beginning -e -q -D '' > "$work/read"
  cmp "$work/fits" "$work/read" >&2 || fail "900 kB came back changed"
}

seek() {
  local topic=$prefix-seek
  topic "$topic"
  seq 0 99 | k -P -t "$topic" -p 0
  equal "$(seq 0 99)" "$(k -C -t "$topic" -p 0 -o beginning -e -q)" "from the beginning"
  equal "$(seq 50 99)" "$(k -C -t "$topic" -p 0 -o 50 -e -q)" "from the middle"
  equal "$(seq 90 99)" "$(k -C -t "$topic" -p 0 -o -10 -e -q)" "the last ten"
  equal "" "$(k -C -t "$topic" -p 0 -o end -e -q)" "from the end"
}

spark-pattern() {
  local topic=$prefix-spark partition
  topic "$topic"
  for partition in 0 1; do seq $((partition * 100)) $((partition * 100 + 19)) | k -P -t "$topic" -p $partition; done
  equal 1 "$(k -L -t "$topic" | grep -c "^  topic \"$topic\" with 3 partitions")" "the description"
  k -L | grep -qE '^  broker [0-9]+ at ' || fail "no broker is listed"
  equal "$topic [0] offset 0" "$(k -Q -t "$topic:0:-2")" "the first offset"
  equal "$topic [0] offset 20" "$(k -Q -t "$topic:0:-1")" "the end offset"
  for partition in 0 1; do
    equal "$(seq $((partition * 100 + 5)) $((partition * 100 + 14)))" "$(k -C -t "$topic" -p $partition -o 5 -c 10 -q)" "5 to 15"
  done
}

# SECURED names a folder with the cluster's certificates (ca.pem, alice.pem, alice.key, and of an authority that it does not know
# other/), its users (name=password) and its listeners (name=host:port,…).
value() { sed -n "s/^$2=//p" "$SECURED/$1"; }
over() { bootstrap=$(value listeners "$1") trust="-X ssl.ca.location=$SECURED/ca.pem"; }
login() { echo "-X security.protocol=SASL_SSL -X sasl.mechanism=$1 -X sasl.username=alice -X sasl.password=$2"; }
identity() { echo "-X ssl.certificate.location=$1/alice.pem -X ssl.key.location=$1/alice.key"; }

# round_trip NAME OPTION…: writes and reads back.
round_trip() {
  local topic=$prefix-$1; shift
  topic "$topic" "$@"
  seq 0 19 | k -P -t "$topic" -p 0 "$@"
  equal "$(seq 0 19)" "$(k -C -t "$topic" -p 0 -o beginning -e -q "$@")" "what is read from $topic"
}

# refused WORDS OPTION…: fails unless the client gives up with these words. It does so at once where it is to produce, and may crash
# at that.
refused() {
  local words=$1 code=0; shift
  timeout 10 kcat -b "$bootstrap" -P -t "$prefix-refused" "$@" <<< refused 2> "$work/stderr" || code=$?
  [ $code != 0 ] && grep -qE "^% ERROR: $words" "$work/stderr" || { cat "$work/stderr" >&2; fail "$words: not said, exit code $code"; }
}

# shellcheck disable=SC2046,SC2086
sasl() {
  over SASL_SSL
  local password; password=$(value users alice)
  round_trip sasl $trust $(login PLAIN "$password")
  refused "Local: Authentication failure" $trust $(login PLAIN wrong)
  # Before 2.6.1 librdkafka sends its part of the nonce twice, which Kafka refuses since 4.0 as if it were the password.
  refused "Local: Authentication failure" $trust $(login SCRAM-SHA-512 "$password")
  refused ".*certificate verify failed" -X ssl.ca.location="$SECURED/other/ca.pem" $(login PLAIN "$password")
}

# shellcheck disable=SC2046,SC2086
tls() {
  local tls="-X security.protocol=SSL"
  over MTLS
  round_trip tls-mutual $tls $trust $(identity "$SECURED")
  refused ".* alert .*(certificate|unknown ca)" $tls $trust
  refused ".* alert .*(certificate|unknown ca)" $tls $trust $(identity "$SECURED/other")
  over SSL
  round_trip tls $tls $trust
  refused ".*certificate verify failed" $tls -X ssl.ca.location="$SECURED/other/ca.pem"
}

# secured NAME: runs the scenario where there is such a cluster.
secured() { if [ -n "${SECURED:-}" ]; then scenario "$1"; else skip "$1" "SECURED names no folder of a secured cluster"; fi; }

skip admin "kcat has no admin commands"
scenario codecs
scenario idempotent
scenario group
scenario cooperative
scenario commit-resume
scenario offsets-for-times
scenario headers
scenario large
scenario seek
skip delete-records "kcat has no admin commands"
scenario spark-pattern
skip transactions "kcat does not begin transactions"
skip kip-848 "librdkafka 2.0.2 has only the classic protocol"
secured sasl
secured tls
skip acls "kcat has no admin commands"
skip share-groups "librdkafka 2.0.2 has no share consumer"
