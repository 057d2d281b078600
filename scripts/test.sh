#!/usr/bin/env bash
# Everything a change must pass. Arguments go to pytest: scripts/test.sh -m slow tests/envs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh dev
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
