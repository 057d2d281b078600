"""The study of quantized latents measures a run and an ablation, and shows both on its page."""

from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from agents.workers import Workers
from scripts.experiments.__main__ import main
from scripts.experiments.experiment import Context
from scripts.experiments.quantized.ablation import SEARCH, Ablations, reset_recurrent_weights
from scripts.experiments.quantized.metrics import METRICS
from scripts.experiments.quantized.study import Quantized
from worldmodels.dream.load import load_world_model
from worldmodels.errors import UserError
from worldmodels.memory import CodeRNN
from worldmodels.presets import override, preset_named
from worldmodels.progress import Report
from worldmodels.runs.json_files import read_json
from worldmodels.runs.run import Run
from worldmodels.stages.dream_check import DreamCheckConfig

NAME, PART = "fsq-1", "fsq-1-untrained"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of the study with one small run and one of its ablations."""
    folder = tmp_path_factory.mktemp("study")
    few = override(SEARCH.cmaes, generations=2, population=4, horizon=20)
    dream = DreamCheckConfig(agents=3, episodes=1, starts=8, samples=2)
    tiny = preset_named("tiny")
    study = Quantized(preset=tiny, episodes=2, drives=2, dream=dream)
    search = override(SEARCH, eval_episodes=1, selection_episodes=2, cmaes=few)
    with Workers(2) as workers:
        for experiment, name in ((study, NAME), (Ablations(preset=tiny, search=search), PART)):
            runs = folder / "runs" / experiment.name
            context = Context(folder / "docs", runs, workers, Report(quiet=True))
            experiment.do([name], context)
    return folder


def test_runs_with_a_result_are_not_missing(folder: Path) -> None:
    missing = Quantized().missing(folder / "docs")
    assert len(missing) == 8 and NAME not in missing
    assert len(Ablations().missing(folder / "docs")) == 5


def test_every_figure_of_a_run_is_measured(folder: Path) -> None:
    result = read_json(folder / f"docs/results/quantized/{NAME}.json")
    # An agent of seconds does not score 500, nor are there two good ones to rank.
    late = {"agent_steps_to_threshold", "good_rank", "rank"}
    missing = {name for name, metric in METRICS.items() if not metric.values([result])}
    assert missing <= late
    curves = result["open_loop"]
    assert {len(curves[name]) for name in ("predicted", "persistence", "reconstruction")} == {25}
    assert curves["persistence"][0] < curves["persistence"][-1]  # what does not move is soon wrong
    assert 0 < result["bits"]["memory"] < result["bits"]["alone"]
    explained = result["explained_variance_by_code"]
    assert explained["other_cells"] < explained["same_cell"] < 1
    assert result["rounds"][-1]["search"] == "cmaes"
    # An agent of seconds may act on two kinds of pictures alike.
    assert len({scores["mean"] for scores in result["scores"].values()}) >= 3
    assert iio.imread(folder / f"docs/results/quantized/codes-{NAME}.png").std() > 1


def test_an_untrained_memory_has_other_recurrent_weights_and_the_same_vision(folder: Path) -> None:
    run = Run(folder / "runs/quantized" / NAME)
    vision, memory = load_world_model(run)
    same, untrained = load_world_model(Run(run.folder / "ablation" / "untrained"))
    assert isinstance(memory, CodeRNN) and isinstance(untrained, CodeRNN)
    ours, theirs = vision.state_dict(), same.state_dict()
    assert all(torch.equal(weights, theirs[name]) for name, weights in ours.items())
    assert not torch.equal(memory.lstm.weight_hidden, untrained.lstm.weight_hidden)
    hidden = untrained.lstm.num_hidden
    assert untrained.lstm.bias[hidden : 2 * hidden].eq(1.0).all()
    assert untrained.lstm.weight_hidden.abs().max() <= hidden**-0.5


def test_resetting_again_after_a_stop_changes_nothing(folder: Path) -> None:
    run = Run(folder / "runs/quantized" / NAME / "ablation" / "untrained")
    weights = run.weights("memory")
    before = weights.read_bytes()
    reset_recurrent_weights(run, Run(folder / "runs/quantized" / NAME).settings.seed)
    assert weights.read_bytes() == before


def test_the_page_shows_what_there_is(folder: Path) -> None:
    text = (folder / "docs/results.md").read_text()
    assert "Too few runs to compare kinds: 1 of FSQ" in text
    assert "| z and h of an untrained M |" in text
    for picture in ("learning.png", "dreams.png", "perturbed.png", f"codes-{NAME}.png"):
        assert f"(results/quantized/{picture})" in text
        assert iio.imread(folder / "docs/results/quantized" / picture).std() > 1


def test_a_study_of_too_few_drives_is_refused() -> None:
    with pytest.raises(UserError, match="drives must be at least 2, got 1"):
        Quantized(drives=1)


def test_page_only_draws_the_same_page_and_runs_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "docs/results.md"
    before = page.read_text()
    page.unlink()
    of_study = ("--docs", str(folder / "docs"), "--runs", str(folder / "none"))
    assert main(["quantized", "--page-only", *of_study]) == 0
    assert capsys.readouterr().out.startswith("missing: vae-1, vq-1, vae-2, ")
    assert page.read_text() == before
    assert not (folder / "none").exists()
