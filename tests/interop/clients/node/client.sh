#!/usr/bin/env bash
# A Node client: `client.sh PROGRAM install DIR` installs the packages, a Node that is new enough among them,
# `client.sh PROGRAM run DIR BOOTSTRAP PREFIX [SCENARIO…]` runs the program's scenarios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$1 command=$2 dir=$3
shift 3

case "$command" in
  install)
    # What is there already is there to stay, as long as these are the packages it was made for.
    cmp -s "$here/package-lock.json" "$dir/installed.json" && exit 0
    command -v npm > /dev/null || { echo "SKIPPED: npm is not on this machine" >&2; exit 77; }
    rm -rf "$dir"; mkdir -p "$dir"
    cp "$here/package.json" "$here/package-lock.json" "$dir"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
      || { echo "SKIPPED: the packages could not be installed" >&2; exit 77; }
    compgen -G "$dir/node_modules/node-linux-*/bin/node" > /dev/null \
      || { echo "SKIPPED: there is no Node package for this machine" >&2; exit 77; }
    cp "$here/package-lock.json" "$dir/installed.json"
    ;;
  run)
    # Programs find packages beside or above themselves only.
    cp "$here"/*.js "$dir"
    exec "$dir"/node_modules/node-linux-*/bin/node "$dir/$program" "$@"
    ;;
  *) sed -n '2,3p' "$0" >&2; exit 2 ;;
esac
