#!/usr/bin/env bash
# Locks every requirement with its hashes: one file per use, all with the same versions. Needs uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --annotation-style line "$@"; }
lock() { compile pyproject.toml "$@"; }
lock --all-extras --group build --group dev -o requirements/development.lock
# What deploy/Dockerfile installs, and what it builds the project with.
lock --extra server --extra postgresql -c requirements/development.lock -o requirements/server.lock
compile --group pyproject.toml:build -c requirements/development.lock -o requirements/build.lock
lock --extra server --extra embedded --group build -c requirements/development.lock -o requirements/embedded.lock
lock --extra server --extra embedded --group build --group gemma4 -c requirements/development.lock -o requirements/gemma4.lock
