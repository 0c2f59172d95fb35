#!/usr/bin/env bash
# Kafka's Java client 3.9.2; see java/client.sh.
exec "$(dirname "$0")/java/client.sh" 3.9.2 "$@"
