"""Some of the mutations that `scripts/fuzz.py` tries."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_spoilt_files_give_one_line_or_their_content() -> None:
    command = [sys.executable, "scripts/fuzz.py", "--mutations", "60", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 mutations" in done.stdout and "refused in one line" in done.stdout
