#!/bin/sh
# Loads an image into this machine's container engine, the first of these that is on PATH.
# usage: load.sh ARCHIVE
set -eu
for engine in docker podman nerdctl; do
  if command -v "$engine" >/dev/null; then
    exec "$engine" load --input "$1"
  fi
done
echo "no container engine is on PATH (looked for docker, podman and nerdctl): install one, then try again" >&2
exit 1
