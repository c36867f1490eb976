#!/usr/bin/env bash
# Fails when the committed stubs differ from what proto/ generates.
set -euo pipefail
cd "$(dirname "$0")"
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
./generate.sh "$fresh"
for file in $(cd "$fresh" && find visiongateway -type f); do
  diff -u "../clients/python/$file" "$fresh/$file" || { echo "stubs are stale: run make generate" >&2; exit 1; }
done
for file in ../clients/python/visiongateway/v1/*_pb2*; do
  [ -e "$fresh/visiongateway/v1/$(basename "$file")" ] || { echo "$file belongs to no proto file any more" >&2; exit 1; }
done
