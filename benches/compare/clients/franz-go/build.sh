#!/usr/bin/env bash
# Fetches franz-go, of the version in go.mod, and compiles the driver, into benches/compare/target/franz-go.
# Says on stdout how it is started, a word a line.
set -euo pipefail
cd "$(dirname "$0")"
command -v go > /dev/null || { echo "go is not on this machine" >&2; exit 1; }
out=$(cd ../.. && pwd)/target/franz-go
mkdir -p "$out"
# Everything beneath target, and removable.
export GOPATH=$out/gopath GOCACHE=$out/cache GOFLAGS="-modcacherw -mod=readonly -buildvcs=false"
# With other records than the other drivers' it would measure something else.
go test . >&2
go build -o "$out/driver" .
# How to start it. Go takes as many threads as it may use cores.
echo "$out/driver"
