#!/usr/bin/env bash
# Trains an agent in its own dream, from a fresh clone, and records a video of it driving.
#
#   scripts/demo.sh [RUN] [options of "wm run"]      RUN is a folder, runs/demo if not given
#
# Called again, it continues where it stopped. Once all files exist, it only prints their paths.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run="runs/demo"
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    run="$1"
    shift
fi
video="$run/drive.mp4"

scripts/setup.sh
.venv/bin/wm run --preset demo --run "$run" "$@"
if [ ! -f "$video" ]; then
    .venv/bin/wm record --run "$run" --out "$video" --side-by-side
fi

echo
echo "video        $video"
find "$run" -name '*.png' -type f | sort | sed 's/^/picture      /'
find "$run" -name '*.json' -type f -path '*evaluat*' | sort | sed 's/^/evaluation   /'
