#!/usr/bin/env bash
# A Python client: `client.sh PROGRAM PACKAGES install DIR` makes a virtual environment with these packages,
# `client.sh PROGRAM PACKAGES run DIR BOOTSTRAP PREFIX [SCENARIO…]` runs the program's scenarios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$1 packages=$2 command=$3 dir=$4
shift 4

case "$command" in
  install)
    # What is there already is there to stay, as long as these are the packages it was made for.
    [ "$(cat "$dir/packages" 2> /dev/null)" = "$packages" ] && exit 0
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null \
      || { echo "SKIPPED: Python 3.10 with venv is not on this machine" >&2; exit 77; }
    rm -rf "$dir"; mkdir -p "$dir"
    python3 -m venv "$dir/venv"
    # shellcheck disable=SC2086
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: $packages >&2 \
      || { echo "SKIPPED: $packages could not be installed" >&2; exit 77; }
    echo "$packages" > "$dir/packages"
    ;;
  run) exec "$dir/venv/bin/python" -B "$here/$program" "$@" ;;
  *) sed -n '2,3p' "$0" >&2; exit 2 ;;
esac
