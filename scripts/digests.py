"""Compute digests of everything that tiny runs write, to show that a code change alters no result.

    python scripts/digests.py --out before.json      before the change
    python scripts/digests.py --against before.json  after the change; exit code 1 on a difference

The script executes `wm` commands with few steps. The commands train every kind of V, M and C, and
the prior over codes. C is trained with every kind of search. Other commands execute MAP-Elites and
black-box variational inference. After each command, the script computes digests of the files that
the command changed. A digest covers the bytes of all tensors and arrays of a file, or the numbers
of a JSON file, in sorted order. Digests do not cover names, so a change that only renames things
leaves all digests the same. Digests do not cover times, settings, paths and versions either. Two
executions give the same digests only on the same machine and with the same build of torch.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import typer
from safetensors.numpy import load_file

# From each command, as its case and number, to the digests of the files that it changed.
Digests = dict[str, list[str]]

COLLECT = "collect --run {run} --preset tiny --episodes 12 --max-steps 60"
CARTPOLE = COLLECT + " --env CartPole-v1"
VISION = "train-vision --run {run}"
BRIEF = " --train-steps 10"
CATEGORICAL = VISION + BRIEF + " --quantized --estimator "
MEMORY = "train-memory --run {run}" + BRIEF
EVALUATE = "evaluate --run {run} --episodes 2 --workers 1"
SEARCHES = (
    "train-controller --run {run} --dream --train-steps 6",
    "train-controller --run {run} --dream --search cmaes --generations 2 --population 4",
    "train-controller --run {run} --generations 2 --population 4 --set cmaes.episodes=2"
    " --horizon 20 --workers 2",
)
DREAMS = (
    "evaluate-memory --run {run} --horizon 20 --starts 4 --samples 2",
    "dream-check --run {run} --episodes 2",
    "record --run {run} --dream --max-steps 12 --out {run}/film.gif",
)

# Each case is a sequence of commands, and independent of the others.
CASES: dict[str, tuple[str, ...]] = {
    "continuous": (
        COLLECT,
        VISION + " --train-steps 20",
        MEMORY,
        *SEARCHES,
        EVALUATE,
        *DREAMS,
        "sample --run {run} --out {run}/samples.png",
        "elites drive --run {run} --evaluations 8 --episodes 1 --max-steps 40 --cells 4 --batch 4",
        "collect --run {run} --preset tiny --episodes 14 --max-steps 60 --policy elites",
    ),
    "codes": (
        COLLECT,
        VISION + " --quantized --train-steps 20",
        MEMORY,
        *SEARCHES,
        EVALUATE,
        *DREAMS,
        "train-prior --run {run} --train-steps 10",
        "sample --run {run} --prior --out {run}/samples.png --count 4",
        "surprise --run {run} --starts 4 --horizon 6",
        "collect --run {run} --preset tiny --episodes 14 --max-steps 60 --select-by-surprise",
    ),
    "categorical-score": (COLLECT, CATEGORICAL + "score", MEMORY, SEARCHES[0], EVALUATE),
    "categorical-straight-through": (COLLECT, CATEGORICAL + "straight-through"),
    "ensemble": (COLLECT, VISION + BRIEF, MEMORY + " --ensemble-size 2", *SEARCHES[:2]),
    "discrete-actions": (CARTPOLE, VISION + BRIEF, MEMORY, *SEARCHES, EVALUATE),
    "paper": (
        COLLECT.replace("tiny", "paper"),
        "train-vision --run {run} --train-steps 2",
        "train-memory --run {run} --train-steps 2",
        SEARCHES[2] + " --paper",
        EVALUATE,
    ),
    "whole-run": ("run --run {run} --preset tiny --rounds 2 --workers 2",),
    "whole-run-codes": ("run --run {run} --preset tiny --rounds 2 --workers 2 --quantized",),
    "arm": (
        "elites arm --joints 8 --operator vae --bandit --evaluations 3000 --out {run}",
        "elites solve --archive {run} --evaluations 100 --out {run}-solve",
    ),
    "arm-codes": ("elites arm --joints 8 --operator vqvae --evaluations 3000 --out {run}",),
    "arm-line": ("elites arm --joints 8 --evaluations 3000 --out {run}",),
    "bbvi": ("bbvi --train-steps 20 --out {run}",),
}

SUFFIXES = (".safetensors", ".npz", ".npy", ".json")  # pictures contain text, which may change
# Numbers under these names differ from one execution to the next.
UNREPEATABLE = re.compile(
    r"second|minute|time|_s$|per_s|rate$|version|process|path|bytes|digest|checksum|hash|inputs|"
    r"outputs|torch|python|config"
)


def main(
    out: Path | None = None, against: Path | None = None, only: str | None = None, jobs: int = 2
) -> None:
    """Compute the digests of all cases, or only of case `only`; write or compare the digests."""
    cases = list(CASES) if only is None else [only]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        made = pool.map(lambda name: case_digests(name, Path(folder) / name), cases)
        digests = {name: each for case in made for name, each in case.items()}
    if out is not None:
        out.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")
    if against is not None:
        before = json.loads(against.read_text())
        chosen = {name: each for name, each in before.items() if name.split(":")[0] in cases}
        sys.exit(report_differences(chosen, digests))


def case_digests(name: str, folder: Path) -> Digests:
    """Execute the commands of one case; return digests of the files that each command changed."""
    digests: Digests = {}
    seen: set[str] = set()
    folder.mkdir()
    for number, command in enumerate(CASES[name]):
        words = shlex.split(command.format(run=folder / "run"))
        call = [sys.executable, "-m", "worldmodels", *words, "--quiet", "--json"]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{name}: wm {shlex.join(words)}\n{done.stderr}")
        now = {
            f"{path.suffix} {content_digest(path)}"  # without the name, as files may be renamed
            for path in folder.rglob("*")
            if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith(".")
        }
        printed = digest_of(numbers_of(json.loads(done.stdout)))
        digests[f"{name}:{number}"] = [*sorted(now - seen), f"printed {printed}"]
        print(f"{name}: wm {words[0]}, {len(now - seen)} contents changed", flush=True)
        seen = now
    return digests


def content_digest(path: Path) -> str:
    """Return the digest of a file's tensors, arrays or numbers."""
    match path.suffix:
        case ".safetensors":
            return digest_of(map(array_digest, load_file(path).values()))
        case ".npz":
            with zipfile.ZipFile(path) as archive:
                return digest_of(bytes_digest(archive.read(name)) for name in archive.namelist())
        case ".npy":
            return array_digest(np.load(path))
        case _:
            return digest_of(numbers_of(json.loads(path.read_text())))


def numbers_of(value: Any) -> Iterator[str]:
    """Yield the numbers in a JSON value, except the numbers that differ between executions."""
    if isinstance(value, dict):
        value = [each for name, each in value.items() if not UNREPEATABLE.search(name)]
    if isinstance(value, list):
        for each in value:
            yield from numbers_of(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield repr(float(value))


def array_digest(array: np.ndarray) -> str:
    """Return the digest of an array's shape, type and bytes."""
    return bytes_digest(f"{array.shape} {array.dtype}".encode() + array.tobytes())


def bytes_digest(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of(parts: Iterable[str]) -> str:
    """Return a digest of the strings. The digest does not depend on the order of the strings."""
    return bytes_digest("\n".join(sorted(parts)).encode())


def report_differences(before: Digests, after: Digests) -> bool:
    """Print one line per command whose digests differ; return whether there is a difference."""
    different = 0
    for name in sorted({*before, *after}):
        old, new = set(before.get(name, [])), set(after.get(name, []))
        if old != new:
            different += 1
            print(f"{name}: missing {sorted(old - new)}, new {sorted(new - old)}")
    total = sum(map(len, before.values()))
    print(f"{different} of {len(before)} commands differ; {total} digests compared")
    return different > 0


if __name__ == "__main__":
    typer.run(main)
