#!/bin/sh
# Pushes an image with this machine's skopeo.
# usage: push.sh LAYOUT TAGS_FILE REPOSITORY [--repository REPOSITORY] [--tag TAG]...
set -eu
layout=$1 tags=$(cat "$2") repository=$3
shift 3
while [ $# -gt 1 ]; do
  case $1 in
    -t | --tag) tags="$tags $2" ;;
    -r | --repository) repository=$2 ;;
    *) break ;;
  esac
  shift 2
done
[ $# -eq 0 ] || { echo "unknown or incomplete argument: $1" >&2; exit 2; }
command -v skopeo >/dev/null || {
  echo "skopeo is not on PATH (on Debian: apt-get install skopeo); it pushes images" >&2
  exit 1
}
for tag in $tags; do
  skopeo copy "oci:$layout" "docker://$repository:$tag"
done
