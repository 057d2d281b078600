"""The study of quantized latents: a whole run and an ablation, measured and on the page."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest
import torch

from agents.workers import Workers
from scripts.experiments.quantized.ablation import ABLATION, reset_recurrent_weights
from scripts.experiments.quantized.compare import CompareConfig, compare, main
from scripts.experiments.quantized.metrics import METRICS
from worldmodels.dream.load import load_world_model
from worldmodels.memory import CodeRNN
from worldmodels.presets import override, preset_named
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.stages.dream_check import DreamCheckConfig

CELL, PART = "fsq-1", "fsq-1-untrained"
# The folder, and what the three calls returned.
Compared = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """One run and one of its ablations; all of it as small as can be."""
    folder = tmp_path_factory.mktemp("compare")
    few = override(ABLATION.cmaes, generations=2, population=4, horizon=20)
    small: dict[str, Any] = {
        "runs": folder / "runs",
        "docs": folder / "docs",
        "preset": preset_named("tiny"),
        "episodes": 2,
        "drives": 2,
        "dream": DreamCheckConfig(agents=3, episodes=1, starts=8, samples=2),
        "ablation": override(ABLATION, eval_episodes=1, selection_episodes=2, cmaes=few),
    }
    with Workers(2) as workers:
        results = [
            compare(CompareConfig(only=name, **small), workers=workers, report=Report(quiet=True))
            for name in (CELL, PART, CELL)
        ]
    return folder, results


def test_a_call_works_on_one_cell_and_none_twice(compared: Compared) -> None:
    _, (first, second, again) = compared
    assert first["done"] == CELL and CELL not in first["missing"] and len(first["missing"]) == 14
    assert second["done"] == PART and PART not in second["missing"]
    assert again["done"] is None and again["missing"] == second["missing"]


def test_every_figure_of_a_run_is_measured(compared: Compared) -> None:
    folder, _ = compared
    result = json.loads((folder / f"docs/results/compare/{CELL}.json").read_text())
    # An agent of seconds does not score 500, nor are there two good ones to rank.
    late = {"agent_steps_to_threshold", "good_rank", "rank"}
    missing = {name for name, metric in METRICS.items() if metric.of(result) is None}
    assert missing <= late
    curves = result["open_loop"]
    assert {len(curves[name]) for name in ("predicted", "persistence", "reconstruction")} == {25}
    assert curves["persistence"][0] < curves["persistence"][-1]  # what does not move is soon wrong
    assert 0 < result["bits"]["memory"] < result["bits"]["alone"]
    assert result["codes"]["other_cells"] < result["codes"]["own_cell"] < 1
    assert result["rounds"][-1]["search"] == "cmaes"
    # An agent of seconds may act on two kinds of pictures alike.
    assert len({scores["mean"] for scores in result["scores"].values()}) >= 3
    assert iio.imread(folder / f"docs/results/compare/codes-{CELL}.png").std() > 1


def test_an_untrained_memory_has_other_recurrent_weights_and_the_same_vision(
    compared: Compared,
) -> None:
    folder, _ = compared
    run = Run(folder / "runs" / CELL)
    vision, memory = load_world_model(run)
    same, untrained = load_world_model(Run(run.folder / "ablation" / "untrained"))
    assert isinstance(memory, CodeRNN) and isinstance(untrained, CodeRNN)
    ours, theirs = vision.state_dict(), same.state_dict()
    assert all(torch.equal(weights, theirs[name]) for name, weights in ours.items())
    assert not torch.equal(memory.lstm.weight_hidden, untrained.lstm.weight_hidden)
    hidden = untrained.lstm.num_hidden
    assert untrained.lstm.bias[hidden : 2 * hidden].eq(1.0).all()
    assert untrained.lstm.weight_hidden.abs().max() <= hidden**-0.5


def test_forgetting_again_after_a_stop_changes_nothing(compared: Compared) -> None:
    folder, _ = compared
    run = Run(folder / "runs" / CELL / "ablation" / "untrained")
    weights = run.weights("memory")
    before = weights.read_bytes()
    reset_recurrent_weights(run, Run(folder / "runs" / CELL).settings.seed)
    assert weights.read_bytes() == before


def test_the_page_shows_what_there_is(compared: Compared) -> None:
    folder, _ = compared
    text = (folder / "docs/results.md").read_text()
    assert "Too few runs to compare kinds: 1 of FSQ" in text
    assert "| z and h of an untrained M |" in text
    for picture in ("learning.png", "dreams.png", "perturbed.png", f"codes-{CELL}.png"):
        assert f"(results/compare/{picture})" in text
        assert iio.imread(folder / "docs/results/compare" / picture).std() > 1


def test_a_cell_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "fsq-9"])
    error = capsys.readouterr().err
    assert "expected one of vae-1, vq-1, fsq-1, " in error
    assert error.endswith(', got "fsq-9"\n')


def test_drawing_works_on_none(compared: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = compared
    page = folder / "docs/results.md"
    before = page.read_text()
    page.unlink()
    main(["--page-only", "--docs", str(folder / "docs"), "--runs", str(folder / "none")])
    assert capsys.readouterr().out.startswith("done: None; missing: ")
    assert page.read_text() == before
    assert not (folder / "none").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["--page-only", "--only", CELL])
    assert "expected one of --page-only and --only, got both" in capsys.readouterr().err
