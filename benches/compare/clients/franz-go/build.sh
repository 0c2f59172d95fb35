#!/usr/bin/env bash
# Fetches franz-go, of the version in go.mod, and compiles the driver, into benches/compare/target/franz-go.
set -euo pipefail
cd "$(dirname "$0")"
command -v go > /dev/null || { echo "go is not on this machine" >&2; exit 1; }
out=$(cd ../.. && pwd)/target/franz-go
mkdir -p "$out"
# Everything beneath target, and removable.
GOPATH=$out/gopath GOCACHE=$out/cache GOFLAGS="-modcacherw -mod=readonly -buildvcs=false" go build -o "$out/driver" .
