#!/usr/bin/env bash
# kafkajs 2.2, with the codecs that it leaves to others.
exec "$(dirname "$0")/node/client.sh" kafkajs.js "$@"
