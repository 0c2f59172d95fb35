#!/usr/bin/env bash
# aiokafka 0.14, with the codecs that it finds when they are installed.
exec "$(dirname "$0")/python/client.sh" aiokafka_client.py "aiokafka==0.14.0 cramjam==2.14.0" "$@"
