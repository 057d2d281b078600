"""The command `wm bbvi` writes result.json and pictures, and refuses bad options."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest

from tests.fixtures.command import wm, wm_json
from worldmodels.bbvi.examples import comparison
from worldmodels.bbvi.examples.experiments import Fit
from worldmodels.progress import Report
from worldmodels.stages.bbvi import NUM_FITS, ExperimentsConfig, _warnings, run_experiments

CALM = "rao-blackwell + leave-one-out"


def picture(path: Path) -> np.ndarray:
    """Return the pixels of a picture, and assert that the pixels differ."""
    pixels = cv2.imread(str(path))
    assert pixels is not None and min(pixels.shape[:2]) > 300
    assert pixels.std() > 20
    return pixels


def check(folder: Path, name: str, result: dict[str, Any]) -> None:
    assert result == json.loads((folder / "result.json").read_text())
    assert len(result["fits"]) == NUM_FITS[name]
    for row in result["fits"]:
        assert row["experiment"] == name
        assert isinstance(row["pareto_k"], float) and row["seconds"] > 0
    for path in result["pictures"]:
        picture(path)


@pytest.mark.parametrize("name", ["beta-bernoulli", "gaussian"])
def test_every_estimator_finds_the_exact_posterior(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "folder"
    result = wm_json("bbvi", "--out", folder, "--only", name)
    check(folder, name, result)
    for row in result["fits"]:
        assert abs(row["kl"]) <= 0.01 and row["pareto_k"] < 0.7, row
    assert result["warnings"] == []
    assert [path.name for path in folder.glob("*.png")] == ["posterior.png"]


def test_variance_is_cut_and_high_k_hat_is_explained(tmp_path: Path) -> None:
    config = ExperimentsConfig(only="variance", num_steps=30, num_repeats=40)
    result = run_experiments(tmp_path, config, Report(quiet=True))
    check(tmp_path, "variance", result)
    summary = result["variance"]
    assert summary["least_kl"] == pytest.approx(0.2738, abs=1e-3)
    assert summary["log_evidence"] - summary["best_elbo"] == pytest.approx(summary["least_kl"])
    for where in ("start", "end"):
        variance, cut = summary["gradient_variance"][where], summary["cut"][where]
        assert len(variance) == 7 and cut["score"] == 1
        assert cut[CALM] == pytest.approx(variance["score"] / variance[CALM]) and cut[CALM] >= 100
        assert cut["rao-blackwell"] >= 10
    assert all(row["kl"] >= summary["least_kl"] for row in result["fits"])
    (warning,) = result["warnings"]  # 30 steps are not enough
    assert "k-hat above 0.7: q misses mass" in warning and f"{CALM}, adam" in warning
    assert {path.name for path in tmp_path.glob("*.png")} == {"elbo.png", "variance.png"}


def test_a_fit_that_diverges_is_a_finding_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(comparison.LEARNING_RATES, "adagrad", 50.0)
    config = ExperimentsConfig(only="variance", num_steps=30, num_repeats=5)
    result = run_experiments(tmp_path, config, Report(quiet=True))
    assert len(result["fits"]) == NUM_FITS["variance"]
    diverged = {row["optimizer"] for row in result["fits"] if row["diverged"]}
    assert diverged == {"adagrad"}
    assert "ended early at a gradient that was not finite: variance" in result["warnings"][1]
    assert json.loads((tmp_path / "result.json").read_text()) == result  # no nan, no infinity
    picture(tmp_path / "elbo.png")


def test_the_table_and_a_folder_that_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "variance.png").write_bytes(b"of an earlier run")
    (tmp_path / "notes.txt").write_text("the user's own")
    done = wm("bbvi", "--out", tmp_path, "--only", "binary-vae", "--train-steps", 300, "--quiet")
    assert done.code == 0 and done.error == ""
    lines = done.output.splitlines()
    assert " ".join(lines[0].split()) == "experiment q estimator optimizer KL (nats) k-hat seconds"
    assert lines[1].split()[:4] == ["binary-vae", "encoder", "pathwise", "adam"]
    assert "independent pixels -60.7" in done.output and "latent.png" in lines[-1]
    summary = json.loads((tmp_path / "result.json").read_text())["binary-vae"]
    assert summary["elbo"] > summary["pixels_of_cluster"] > summary["independent_pixels"]
    assert summary["accuracy"] > 0.95
    assert {path.name for path in tmp_path.iterdir()} == {"latent.png", "result.json", "notes.txt"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train-steps", "0"], ["num_steps must be at least 1", "0"]),
        (["--seed", "-1"], ["a seed of at least 0", "-1"]),
        (["--seed", "99999999999999999999999"], ["below 2**63", "99999999999999999999999"]),
        (["--only", "coin"], ["--only", "coin", "beta-bernoulli"]),
        (["--train-steps", "many"], ["--train-steps"]),
    ],
)
def test_bad_options_are_one_line_and_leave_no_folder(
    tmp_path: Path, options: list[str], words: list[str]
) -> None:
    done = wm("bbvi", "--out", tmp_path / "new", *options)
    (line,) = done.error.strip().splitlines()
    assert done.code == 2 and line.startswith("wm: ")
    assert all(word in line for word in words)
    assert not (tmp_path / "new").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = wm("bbvi", "--out", tmp_path / "file", "--train-steps", 1)
    assert done.code == 2 and "is a file: name a folder with --out" in done.error
    assert (tmp_path / "file").read_text() == "mine"
    done = wm("bbvi", "--out", tmp_path / "file" / "below", "--train-steps", 1)
    assert done.code == 2 and f"{tmp_path / 'file'} is a file" in done.error


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("where", ["fit_binary_vae", "pictures.save_binary_vae", "json.dumps"])
def test_ctrl_c_leaves_nothing_new_and_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    options = ("--only", "binary-vae", "--train-steps", 2, "--quiet")
    assert wm("bbvi", "--out", tmp_path / "old", *options).code == 0
    earlier = contents(tmp_path / "old")
    assert set(earlier) == {"result.json", "latent.png"}

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"worldmodels.stages.bbvi.{where}", interrupted)
    for name in ("old", "new"):
        done = wm("bbvi", "--out", tmp_path / name, *options)
        assert done.code == 130 and done.error.strip() == "stopped: run the same command again"
    assert contents(tmp_path / "old") == earlier
    assert not (tmp_path / "new").exists()


def test_what_a_killed_command_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".bbvi.partial").mkdir()
    (tmp_path / ".bbvi.partial" / "elbo.png").write_bytes(b"half")
    assert wm("bbvi", "--out", tmp_path, "--only", "binary-vae", "--train-steps", 2).code == 0
    assert set(contents(tmp_path)) == {"result.json", "latent.png"}


def test_a_folder_that_cannot_be_written_is_said_before_the_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # a test may run as root
    done = wm("bbvi", "--out", tmp_path / "new")
    assert done.code == 2 and f"no permission to write in {tmp_path}: name" in done.error


def test_a_fit_without_k_hat_is_not_called_above_the_limit() -> None:
    row = Fit("variance", "mean field", "score", "adam", kl=0.1, pareto_k=0.2, seconds=1.0)
    assert _warnings([row]) == []
    (warning,) = _warnings([row, replace(row, pareto_k=math.nan)])
    assert "fits without k-hat, because weights are tied or not finite: variance" in warning
    (warning,) = _warnings([row, replace(row, pareto_k=math.inf)])
    assert "k-hat above 0.7" in warning and "(inf)" in warning


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    result = wm_json("bbvi", "--out", tmp_path)
    assert [row["experiment"] for row in result["fits"]] == [
        name for name, number in NUM_FITS.items() for _ in range(number)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("result.json", "posterior.png", "elbo.png", "variance.png", "latent.png")
    }
    for path in result["pictures"]:
        picture(path)
    mean_field, *full = (row["kl"] for row in result["fits"] if row["experiment"] == "logistic")
    assert 0 < max(full) < 0.03 < 0.2 < mean_field
    assert result["logistic"]["standard_error"] < 0.003 and result["logistic"]["r_hat"] < 1.01
    calm = [row for row in result["fits"] if row["estimator"] == CALM]
    assert all(row["kl"] < result["variance"]["least_kl"] + 0.02 for row in calm)
    assert result["binary-vae"]["elbo"] > -20 and result["binary-vae"]["accuracy"] > 0.95
