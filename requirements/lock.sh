#!/usr/bin/env bash
# Locks every requirement with its hashes: one file per use, all with the same versions. Needs uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --annotation-style line "$@"; }
lock --all-extras --group build --group dev -o requirements/development.lock
lock --extra server -c requirements/development.lock -o requirements/server.lock
lock --extra server --extra embedded --group build -c requirements/development.lock -o requirements/embedded.lock
lock --extra server --extra embedded --group build --group gemma4 -c requirements/development.lock -o requirements/gemma4.lock
