#!/usr/bin/env bash
# franz-go 1.22 with kadm 1.19: `franz-go.sh install DIR` fetches and compiles, `franz-go.sh run DIR BOOTSTRAP PREFIX [SCENARIO…]` runs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command=$1 dir=$2
shift 2

case "$command" in
  install)
    command -v go > /dev/null || { echo "SKIPPED: Go is not on this machine" >&2; exit 77; }
    cd "$here/go"
    # All of it beneath DIR, and removable.
    export GOPATH=$dir/gopath GOCACHE=$dir/cache GOFLAGS="-modcacherw -mod=readonly"
    go mod download >&2 || { echo "SKIPPED: the modules could not be fetched" >&2; exit 77; }
    go build -o "$dir/interop" . >&2
    ;;
  run) exec "$dir/interop" "$@" ;;
  *) sed -n '2p' "$0" >&2; exit 2 ;;
esac
