#!/usr/bin/env bash
# Generates the Python stubs under clients/python/ from proto/. Run it with the development environment's python.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-../.venv/bin/python}
out=${1:-../clients/python}
PATH="$(cd "$(dirname "$python")" && pwd):$PATH" "$python" -m grpc_tools.protoc -I. \
  --python_out="$out" --mypy_out="quiet:$out" visiongateway/v1/*.proto
PATH="$(cd "$(dirname "$python")" && pwd):$PATH" "$python" -m grpc_tools.protoc -I. \
  --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" visiongateway/v1/vision_service.proto
