#!/usr/bin/env bash
# Kafka's Java client 4.3.1; see java/client.sh.
exec "$(dirname "$0")/java/client.sh" 4.3.1 "$@"
