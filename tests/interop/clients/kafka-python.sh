#!/usr/bin/env bash
# kafka-python 3, with the codecs that it finds when they are installed.
exec "$(dirname "$0")/python/client.sh" kafka_python.py "kafka-python==3.0.12 python-snappy==0.7.3 lz4==4.4.5 zstandard==0.25.0 cramjam==2.14.0" "$@"
