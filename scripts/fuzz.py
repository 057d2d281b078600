"""Fuzz the functions that read files, with damaged files and with hostile files.

    python scripts/fuzz.py                       1,000 mutations of the files of tiny runs
    python scripts/fuzz.py --mutations 50 --seed 7

Each mutation spoils one file of a run: an episode, a checkpoint, a manifest or run.json. *Damage*
changes bytes, as faulty disks do. A *forgery* changes the content of a file and corrects the file's
checksums. A forgery does not happen by accident. After each mutation, there are two correct
outcomes:

- A function that reads the file raises UserError with a message of one line.
- The functions accept the file. From a damaged file, the functions must return the original
  content.

The functions must never raise another exception, and must never use more than 1 GiB of additional
memory. The operating system enforces the memory limit. The script runs only on Linux. The script
prints one line per failure, and ends with exit code 1 if there is a failure. Each line contains the
options --seed and --only, which repeat the failure.
"""

import contextlib
import io
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import typer
from fuzzing.forgeries import FORGERIES
from fuzzing.mutations import damage
from typer.testing import CliRunner

from worldmodels.cli import app, run_command
from worldmodels.controller.agent import load_agent
from worldmodels.data.store import EpisodeStore
from worldmodels.dream.load import load_world_model
from worldmodels.errors import UserError
from worldmodels.prior.surprise import load_surprise
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.run import BEST, RUN, STAGES, Run
from worldmodels.runs.stage_folder import MANIFEST
from worldmodels.stages.info import run_info

GIB = 2**30
COLLECT = "collect --preset tiny --episodes 11 --max-steps 12 --workers 1"
VISION = "train-vision --train-steps 2"
REST = ("train-memory --train-steps 2", "train-controller --dream --train-steps 1 --workers 1")
COMMANDS = {
    "continuous": (COLLECT, VISION, *REST),
    "quantized": (COLLECT, VISION + " --quantized", *REST, "train-prior --train-steps 1"),
}


def main(mutations: int = 1_000, seed: int = 0, only: int | None = None) -> None:
    """Try mutations 0 to `mutations` - 1, or only mutation `only`."""
    numbers = range(mutations) if only is None else [only]
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    grown, started = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = [make_run(Path(folder) / kind, kind) for kind in COMMANDS]
        for run in runs:  # loads everything that is loaded only once
            for kind, read in READERS.items():
                for path in files_of(run, kind):
                    read(run, path)
        for number in numbers:
            outcome, growth = try_one(runs[number % 2], number, seed)
            grown.append(growth)
            outcomes[outcome.partition(":")[0]] += 1
            if outcome.startswith("FAILED"):
                print(f"--seed {seed} --only {number}: {outcome}")
    for name, count in sorted(outcomes.items()):
        print(f"{count:>6} {name}")
    seconds, most = time.monotonic() - started, max(grown, default=0) / 2**20
    print(f"{len(numbers):>6} mutations in {seconds:.0f} s; reading took {most:.0f} MiB at most")
    sys.exit(outcomes["FAILED"] > 0)


def make_run(folder: Path, kind: str) -> Run:
    """Make a run with a V of the given kind and with all stages, each trained for a few steps."""
    for command in COMMANDS[kind]:
        done = CliRunner().invoke(app, f"{command} --run {folder} --quiet")
        if done.exit_code:
            sys.exit(f"wm {command} failed: {done.output}{done.exception}")
    return Run(folder)


def try_one(run: Run, number: int, seed: int) -> tuple[str, int]:
    """Spoil, read and restore one file; return the outcome, and the bytes of memory for reading."""
    random = np.random.default_rng([seed, number])
    kind = list(READERS)[number // 2 % len(READERS)]
    files = files_of(run, kind)
    path = files[random.integers(len(files))]
    before = path.read_bytes()
    expected = READERS[kind](run, path)
    forged = bool(random.random() < 0.5)
    what = (FORGERIES[kind] if forged else damage)(path, random)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    resident = memory_status("VmRSS")
    try:
        with memory_limit(GIB):
            outcome = read_spoilt(lambda: READERS[kind](Run(run.folder), path), expected, forged)
            if not outcome.startswith("FAILED"):
                outcome = command_outcome(run, kind) or outcome
    finally:
        path.write_bytes(before)
    if outcome.startswith("FAILED"):
        outcome += f" ({what} of {path.relative_to(run.folder)})"
    return outcome, memory_status("VmHWM") - resident


def read_spoilt(read: Callable[[], Any], expected: Any, forged: bool) -> str:
    """Read a spoilt file with `read`, and return the outcome."""
    try:
        found = read()
    except UserError as error:
        message = str(error)
        if not message or "\n" in message or "allocate" in message:
            return f"FAILED: expected one line about the file, got {message!r}"
        return "refused in one line"
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {error}"
    if same(found, expected):
        return "accepted with the same content"
    return "a forgery accepted" if forged else "FAILED: accepted with other content"


def command_outcome(run: Run, kind: str) -> str | None:
    """Execute a command on the run; return how the command failed, or None if it succeeded."""
    command = ["data", "info", "--verify"] if kind == "episode" else ["info"]
    error = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["wm", *command, "--run", str(run)]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(error),
    ):
        try:
            run_command()
        except SystemExit as end:
            lines = error.getvalue().splitlines()
            if not end.code or (end.code == 2 and len(lines) == 1 and lines[0].startswith("wm: ")):
                return None
            return f"FAILED: wm {command} ended with {end.code}: {error.getvalue()}"
    return f"FAILED: wm {command} did not end"


def files_of(run: Run, kind: str) -> list[Path]:
    """Return the files of the run that the reader of this kind reads."""
    if kind == "episode":
        return [episode.path for episode in run.store]
    if kind == "checkpoint":
        return [*(run.weights(name) for name in STAGES if run.has(name)), run.folder / BEST]
    return [*(run.folder / name / MANIFEST for name in STAGES if run.has(name)), run.folder / RUN]


def read_episode(run: Run, path: Path) -> Any:
    """Read everything that an episode contains."""
    store = EpisodeStore(path.parent)
    (episode,) = [each for each in store.episodes if each.path == path]
    rollout = episode.load()
    half = np.empty((episode.num_frames(2), *episode.frame_shape), np.uint8)
    episode.read_frames(half, 2)
    return episode.meta, rollout.frames, rollout.actions, rollout.rewards, half


def read_checkpoint(run: Run, path: Path) -> Any:
    """Read a model's file, and build the model from it."""
    if path == run.folder / BEST or path == run.weights("controller"):
        agent = load_agent(path)
        agent.reset(1, 0)
        agent.act(np.zeros((1, 64, 64, 3), np.uint8))
    elif path == run.weights("prior"):
        load_surprise(run)
    else:
        load_world_model(run)
    saved = load_checkpoint(path, hint="none")
    tensors = {name: (str(each.dtype), each.numpy()) for name, each in saved.tensors.items()}
    return saved.metadata, tensors


def read_facts(run: Run, path: Path) -> Any:
    """Return all metadata of a run, including which stages are stale."""
    stages = [(run.manifest(name), run.stale(name)) for name in STAGES]
    return run_info(run), run.settings, run.estimator, stages


READERS = {"episode": read_episode, "checkpoint": read_checkpoint, "json": read_facts}


def same(one: Any, other: Any) -> bool:
    """Whether nested values and arrays are equal; two NaNs count as equal."""
    try:
        np.testing.assert_equal(one, other)
    except AssertionError:
        return False
    return True


def memory_status(name: str) -> int:
    """Return the bytes of memory that Linux reports for this process under `name`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


@contextlib.contextmanager
def memory_limit(num_bytes: int) -> Iterator[None]:
    """Let this process allocate at most `num_bytes` of additional memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_status("VmSize") + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


if __name__ == "__main__":
    typer.run(main)
