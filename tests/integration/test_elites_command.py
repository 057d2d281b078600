"""The files that `wm elites arm` and `solve` write, even after kills, and their refusals."""

import csv
import json
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.fixtures.command import wm, wm_json
from tests.fixtures.process_watch import wait_until
from worldmodels.map_elites.arm import ArmConfig
from worldmodels.progress import Report
from worldmodels.stages import elites_arm as elites
from worldmodels.stages.elites_arm import search_arm

SMALL = ArmConfig(joints=12, operator="vae", bandit=True, evaluations=3_000, num_cells=100)


def search(folder: Path) -> None:
    elites.CHECKPOINT_SECONDS = 0.0  # so that every kill happens at another state
    search_arm(folder, SMALL, Report(quiet=True))


def outcome(folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return all that must not depend on kills: archive, model, and curve without times."""
    history = json.loads((folder / "result.json").read_text())["history"]
    for entry in history:
        del entry["seconds"], entry["training_seconds"]
    arrays = load_file(folder / "elites.safetensors")
    return {name: value.tobytes() for name, value in arrays.items()}, history


def wait_for_next(saved: Path, process: BaseProcess) -> None:
    """Wait until the process has saved once more or has ended."""
    before = saved.stat().st_mtime_ns if saved.exists() else None

    def happened() -> bool:
        if not process.is_alive():
            return True
        try:
            return saved.stat().st_mtime_ns != before
        except FileNotFoundError:
            return False

    wait_until(happened, seconds=60)


def test_killed_again_and_again_it_ends_with_the_same_archive(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch.utils.tensorboard.writer", "seaborn"])
    search(tmp_path / "whole")
    random, cut_short = np.random.default_rng(0), 0
    saved = tmp_path / ".killed.partial" / "elites.safetensors"
    for _ in range(3):
        process = context.Process(target=search, args=(tmp_path / "killed",))
        process.start()
        wait_for_next(saved, process)
        time.sleep(random.uniform(0, 0.2))
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            cut_short += 1
        process.join()
    assert cut_short > 0
    search(tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not (tmp_path / ".killed.partial").exists()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elites") / "archive"
    command = ("elites", "arm", "--joints", 12, "--operator", "vqvae", "--evaluations", 1_500)
    wm_json(*command, "--out", folder)
    return folder


def test_an_archive_its_curve_and_its_picture(archive: Path) -> None:
    result = json.loads((archive / "result.json").read_text())
    assert result["evaluations"] == 1_500
    assert result["qd_score_offset"] == pytest.approx(-np.pi / 2)
    arrays = load_file(archive / "elites.safetensors")
    coverage = len(arrays["solutions"]) / len(arrays["centroids"])
    assert result["coverage"] == pytest.approx(coverage)
    assert arrays["solutions"].shape[1] == 12
    rows = list(csv.DictReader((archive / "curve.csv").open()))
    assert [int(row["evaluations"]) for row in rows] == list(range(100, 1_501, 100))
    assert float(rows[-1]["coverage"]) == result["coverage"]
    assert (archive / "elites.png").stat().st_size > 10_000
    done = wm("elites", "arm", "--joints", 12, "--operator", "vqvae", "--evaluations", 1_500,
              "--out", archive)  # fmt: skip
    assert done.code == 0 and f"{archive.name}: done" in done.error


def test_targets_are_searched_in_both_spaces(archive: Path) -> None:
    result = wm_json("elites", "solve", "--archive", archive, "--evaluations", 100)
    assert set(result["direct"]) == set(result["codes"]) == {"100"}
    rows = list(csv.DictReader((archive.with_name("archive-solve") / "solve.csv").open()))
    assert len(rows) == 2 * 18
    for space in ("direct", "codes"):
        distances = [float(row["distance"]) for row in rows if row["space"] == space]
        figures = result[space]["100"]
        assert figures["median_distance"] == pytest.approx(np.median(distances), abs=1e-6)
        assert figures["reached"] == sum(distance < 0.01 for distance in distances)


def refused(*arguments: object, expected: str) -> None:
    done = wm("elites", *arguments)
    assert done.code == 2, done
    assert expected in done.error
    assert len(done.error.strip().splitlines()) == 1


def test_what_is_refused(tmp_path: Path, archive: Path) -> None:
    out = ("--out", tmp_path / "new")
    refused("arm", "--joints", 0, *out, expected="joints must be at least 1, got 0")
    refused("arm", "--evaluations", 0, *out, expected="evaluations must be at least 1, got 0")
    refused("arm", "--seed", -1, *out, expected="seed must be at least 0, got -1")
    refused("arm", "--operator", "pca", *out, expected="pca")
    refused("solve", "--archive", tmp_path / "none", expected='run "wm elites arm')
    few = ("--evaluations", 5, *out)
    refused("solve", "--archive", archive, *few, expected="expected at least 11 evaluations, got 5")
    line = tmp_path / "line"
    wm_json("elites", "arm", "--joints", 5, "--evaluations", 300, "--out", line)
    refused("solve", "--archive", line, expected="its search used the line operator")
    assert not list(tmp_path.glob("*new*"))
