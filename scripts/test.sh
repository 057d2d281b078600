#!/usr/bin/env bash
# Runs all checks of a change. Arguments go to pytest: scripts/test.sh -m slow tests/envs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh dev
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build
# One process per core with one thread each: small nets gain nothing from a second thread. A file's
# tests stay together, because they share what is made once per file.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
