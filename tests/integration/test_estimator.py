"""The commands train V with categorical codes by either estimator, and then M and the prior."""

import json
from pathlib import Path

import pytest

from tests.fixtures.command import wm, wm_json
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.vision import CategoricalVAE, restore_vision


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run with a few short episodes."""
    folder = tmp_path_factory.mktemp("estimator") / "run"
    few = ("--episodes", 3, "--max-steps", 40, "--workers", 1)
    wm_json("collect", "--run", folder, "--preset", "tiny", *few)
    return folder


@pytest.mark.parametrize("estimator", ["score", "straight-through"])
def test_the_estimator_reaches_v_and_all_that_comes_after_takes_its_codes(
    collected: Path, estimator: str
) -> None:
    run = ("--run", collected)
    result = wm_json(
        "train-vision", *run, "--quantized", "--estimator", estimator, "--train-steps", 3
    )
    assert result["bits_per_frame"] == pytest.approx(16 * 5)
    manifest = json.loads((collected / "vision" / "manifest.json").read_text())
    assert manifest["config"]["model"]["estimator"] == estimator
    path = collected / "vision" / "vision.safetensors"
    vision = restore_vision(load_checkpoint(path, hint=""), path)
    assert isinstance(vision, CategoricalVAE) and vision.config.estimator == estimator
    assert wm_json("train-memory", *run, "--train-steps", 2)["agent_steps"] == 2 * 10
    assert wm_json("train-prior", *run, "--train-steps", 2)["log_k"] == pytest.approx(
        3.4657, abs=1e-3
    )


def test_an_estimator_is_for_codes(collected: Path) -> None:
    done = wm("train-vision", "--run", collected, "--estimator", "score")
    assert done.code == 2
    assert done.error.strip() == "wm: --estimator score is only for a V with codes: add --quantized"
    done = wm("train-vision", "--run", collected, "--quantized", "--estimator", "magic")
    assert done.code == 2 and len(done.error.strip().splitlines()) == 1
    assert "'magic' is not one of 'score', 'straight-through'" in done.error
