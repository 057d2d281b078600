#!/usr/bin/env bash
# Makes .venv and installs the package into it; does nothing when .venv is up to date.
#
#   scripts/setup.sh        installs what running needs
#   scripts/setup.sh dev    also installs what checks and tests need
#   scripts/setup.sh games  also installs Atari and MiniGrid, whose tests are skipped without them
#   scripts/setup.sh bench  also installs the peers that scripts/benchmark.py compares with
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extra="${1:-}"
case "$extra" in
    "" | dev | games | bench) ;;
    *) echo "setup.sh: expected no argument, \"dev\", \"games\" or \"bench\", got \"$extra\"" >&2; exit 2 ;;
esac

if [ ! -x .venv/bin/python ]; then
    found=""
    # Named versions come first, because every dependency has a wheel for them.
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            found="$candidate"
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "setup.sh: expected Python 3.11 or newer, found none: install it from python.org" >&2
        exit 1
    fi
    "$found" -m venv .venv
fi

# A stamp identifies the files that were installed from. Every extra includes what running needs.
wanted="$(pwd) $(cat pyproject.toml scripts/constraints.txt | cksum)"
stamps=".venv/.installed-${extra:-run}"
[ -n "$extra" ] || stamps="$stamps .venv/.installed-dev .venv/.installed-games .venv/.installed-bench"
for stamp in $stamps; do
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        exit 0
    fi
done

# The install is always editable: a copy would go stale at the next pull, with the same stamp.
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --constraint scripts/constraints.txt --editable ".${extra:+[$extra]}"
echo "$wanted" > ".venv/.installed-${extra:-run}"
