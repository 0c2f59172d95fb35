#!/usr/bin/env bash
# @platformatic/kafka 2.
exec "$(dirname "$0")/node/client.sh" platformatic.js "$@"
