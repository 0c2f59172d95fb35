#!/usr/bin/env bash
# Fetches Apache Kafka from Maven Central and starts or stops a cluster of one or three nodes on loopback.
#
#   kafka.sh start [--nodes 1|3] [--version V] [--dir DIR]   prints KAFKA_BOOTSTRAP=host:port,… when the cluster answers
#            [--secured FILES]                               one node with a listener for each protocol; FILES has ca.pem, server.pem,
#                                                            server.key, jwks.json and users (lines of name=password); the addresses
#                                                            by listener are written to FILES/listeners
#   kafka.sh stop  [--dir DIR]                               SIGTERM to its processes, SIGKILL after 20 s
#   kafka.sh libs  [--version V]                             prints the folder of jars, fetched if need be
#
# Without --version: the newest 4.x whose broker and tools are both on Maven Central, of the list below (4.4.0 lacks its tools).
# Jars are kept under target/, cluster data under DIR (default target/apache-kafka/run).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache="${CARGO_TARGET_DIR:-$root/target}/apache-kafka"
candidates=(4.3.1 4.3.0)

command=${1:-help}; shift || true
nodes=1 version="" dir="$cache/run" secured=""
while [ $# -gt 0 ]; do
  case "$1" in
    --nodes) nodes=$2; shift 2 ;;
    --version) version=$2; shift 2 ;;
    --dir) dir=$2; shift 2 ;;
    --secured) secured=$(cd "$2" && pwd); shift 2 ;;
    *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
  esac
done

need() { command -v "$1" >/dev/null 2>&1 || { echo "$1 is not on this machine" >&2; exit 3; }; }

# Copies the jars of one version; fails when Maven Central has it only in part.
fetch() {
  local v=$1 libs="$cache/libs-$1"
  [ -e "$libs/.complete" ] && { echo "$libs"; return 0; }
  local work; work=$(mktemp -d)
  cat > "$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>x</groupId><artifactId>x</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$v</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$v</version></dependency>
</dependencies></project>
POM
  rm -rf "$libs"; mkdir -p "$libs"
  if (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$libs") >"$cache/mvn-$v.log" 2>&1; then
    touch "$libs/.complete"; rm -rf "$work"; echo "$libs"
  else
    rm -rf "$work" "$libs"; return 1
  fi
}

libs() {
  need java; need mvn; mkdir -p "$cache"
  if [ -n "$version" ]; then
    fetch "$version" || { echo "Maven Central lacks Kafka $version, or could not be reached; see $cache/mvn-$version.log" >&2; exit 4; }
    return
  fi
  for v in "${candidates[@]}"; do fetch "$v" && return; done
  echo "none of ${candidates[*]} could be fetched; see $cache/mvn-*.log" >&2; exit 4
}

free_ports() { python3 - "$1" <<'PY' 2>/dev/null || seq 19092 $((19092 + $1 - 1))
import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
for x in s: x.bind(("127.0.0.1", 0))
print("\n".join(str(x.getsockname()[1]) for x in s))
PY
}

# One properties file per node. A three-node cluster replicates like a production one: factor 3, min ISR 2.
properties() {
  local id=$1 port=$2 controller=$3 quorum=$4 rf=$5 isr=$6
  cat <<P
process.roles=broker,controller
node.id=$id
$quorum
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
broker.rack=rack-$id
replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector
log.dirs=$dir/data-$id
num.partitions=3
default.replication.factor=$rf
min.insync.replicas=$isr
offsets.topic.num.partitions=3
offsets.topic.replication.factor=$rf
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=$rf
transaction.state.log.min.isr=$isr
share.coordinator.state.topic.replication.factor=$rf
share.coordinator.state.topic.min.isr=$isr
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
P
}

# What the one node of a secured cluster has beside the above: a listener for each protocol, the users, and an authorizer that lets
# everybody at what no ACL is about. Sessions on the listener SESSIONS last 2 s, so that clients have to authenticate again.
security() {
  local names=(SSL MTLS SASL_PLAINTEXT SASL_SSL SESSIONS) all="PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$2" at="PLAINTEXT://127.0.0.1:$1" name index=3 mechanism users="" user
  echo "PLAINTEXT=127.0.0.1:$1" > "$secured/listeners"
  for name in "${names[@]}"; do
    all+=",$name://127.0.0.1:${!index}" at+=",$name://127.0.0.1:${!index}"
    echo "$name=127.0.0.1:${!index}" >> "$secured/listeners"; index=$((index + 1))
  done
  while IFS== read -r user password; do users+=" user_$user=\"$password\""; done < "$secured/users"
  cat <<P
listeners=$all
advertised.listeners=$at
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,MTLS:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SESSIONS:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location=$dir/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$secured/ca.pem
listener.name.mtls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
allow.everyone.if.no.acl.found=true
delegation.token.secret.key=a-secret-of-the-tests
P
  for name in sasl_plaintext sasl_ssl sessions; do
    echo "listener.name.$name.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required$users;"
    for mechanism in scram-sha-256 scram-sha-512; do
      echo "listener.name.$name.$mechanism.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
    done
    echo "listener.name.$name.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    echo "listener.name.$name.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
    echo "listener.name.$name.oauthbearer.sasl.oauthbearer.jwks.endpoint.url=file://$secured/jwks.json"
    echo "listener.name.$name.oauthbearer.sasl.oauthbearer.expected.audience=kafka"
  done
  for mechanism in plain scram-sha-256 scram-sha-512 oauthbearer; do echo "listener.name.sessions.$mechanism.connections.max.reauth.ms=2000"; done
}

start() {
  local jars; jars=$(libs)
  [ -e "$dir/pids" ] && stop
  rm -rf "$dir"; mkdir -p "$dir"
  mapfile -t ports < <(free_ports $((nodes * 2 + 5)))
  local scram=() jvm=()
  if [ -n "$secured" ]; then
    [ "$nodes" = 1 ] || { echo "--secured is for one node" >&2; exit 2; }
    cat "$secured/server.key" "$secured/server.pem" > "$dir/keystore.pem"
    while IFS== read -r user password; do
      scram+=(--add-scram "SCRAM-SHA-256=[name=$user,password=$password]" --add-scram "SCRAM-SHA-512=[name=$user,password=$password]")
    done < "$secured/users"
    jvm=("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$secured/jwks.json" "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files=$secured/jwks.json")
  fi
  cat > "$dir/log4j2.xml" <<'X'
<Configuration status="warn"><Appenders><Console name="out"><PatternLayout pattern="%d %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="out"/></Root></Loggers></Configuration>
X
  local uuid bootstrap="" voters="" id
  uuid=$(java -cp "$jars/*" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)
  for id in $(seq "$nodes"); do
    bootstrap+="${bootstrap:+,}127.0.0.1:${ports[id - 1]}"
    voters+="${voters:+,}$id@127.0.0.1:${ports[nodes + id - 1]}"
  done
  for id in $(seq "$nodes"); do
    if [ "$nodes" = 1 ]; then
      properties 1 "${ports[0]}" "${ports[1]}" "controller.quorum.bootstrap.servers=127.0.0.1:${ports[1]}" 1 1 > "$dir/node-1.properties"
      # The later of two lines for one setting counts.
      [ -z "$secured" ] || security "${ports[@]}" >> "$dir/node-1.properties"
      java -cp "$jars/*" kafka.tools.StorageTool format --standalone -t "$uuid" "${scram[@]}" -c "$dir/node-1.properties" > "$dir/format-1.log" 2>&1
    else
      properties "$id" "${ports[id - 1]}" "${ports[nodes + id - 1]}" "controller.quorum.voters=$voters" 3 2 > "$dir/node-$id.properties"
      java -cp "$jars/*" kafka.tools.StorageTool format -t "$uuid" -c "$dir/node-$id.properties" > "$dir/format-$id.log" 2>&1
    fi
  done
  for id in $(seq "$nodes"); do
    nohup java -Xmx512m "${jvm[@]}" -Dlog4j2.configurationFile="$dir/log4j2.xml" -cp "$jars/*" kafka.Kafka "$dir/node-$id.properties" \
      > "$dir/node-$id.log" 2>&1 < /dev/null &
    echo $! >> "$dir/pids"
  done
  # Ready means that every node answers and has registered, not that a port is open. The tool has moved between versions.
  local tool=org.apache.kafka.tools.BrokerApiVersionsCommand
  case $jars in */libs-3.*) tool=kafka.admin.BrokerApiVersionsCommand ;; esac
  local deadline=$((SECONDS + 90))
  until [ "$(java -Xmx128m -cp "$jars/*" $tool --bootstrap-server "$bootstrap" 2>/dev/null | grep -c ' (id: ')" -ge "$nodes" ]; do
    if [ $SECONDS -gt $deadline ]; then
      echo "Apache Kafka did not become ready in 90 s; the end of its log:" >&2; tail -n 30 "$dir"/node-*.log >&2; stop; exit 5
    fi
    while read -r pid; do kill -0 "$pid" 2>/dev/null || { echo "a node died; the end of its log:" >&2; tail -n 30 "$dir"/node-*.log >&2; stop; exit 5; }; done < "$dir/pids"
  done
  echo "KAFKA_BOOTSTRAP=$bootstrap"
}

stop() {
  [ -e "$dir/pids" ] || return 0
  local pids; pids=$(cat "$dir/pids")
  # shellcheck disable=SC2086
  kill $pids 2>/dev/null || true
  local deadline=$((SECONDS + 20))
  for pid in $pids; do
    while kill -0 "$pid" 2>/dev/null; do
      [ $SECONDS -gt $deadline ] && kill -9 "$pid" 2>/dev/null
      sleep 0.2
    done
  done
  rm -f "$dir/pids"
}

case "$command" in
  start) start ;;
  stop) stop ;;
  libs) libs ;;
  *) sed -n '2,13p' "$0"; exit 2 ;;
esac
