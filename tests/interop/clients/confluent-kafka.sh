#!/usr/bin/env bash
# librdkafka 2.16, by its Python package.
exec "$(dirname "$0")/python/client.sh" confluent.py "confluent-kafka==2.16.1" "$@"
