#!/usr/bin/env bash
# Runs the driver that build.sh has made. Go takes as many threads as it may use cores.
exec "$(dirname "$0")/../../target/franz-go/driver" "$@"
