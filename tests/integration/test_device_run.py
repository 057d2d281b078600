"""A whole run on a machine with a GPU, as a user starts it: `--device` is left alone."""

import contextlib
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from agents.workers import Workers
from scripts.experiments.quantized import ablation, compare
from scripts.experiments.quantized.kinds import ABLATIONS
from tests.fixtures.command import wm, wm_json
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.emulated_device import emulated_device
from tests.fixtures.tiny_run import tiny_run
from worldmodels import pipeline, presets
from worldmodels.presets import TINY
from worldmodels.progress import Report
from worldmodels.stages.collect import CollectConfig
from worldmodels.training.fit import FitConfig

SHORT = FitConfig(12, 6, learning_rate=1e-3, validate_every=6)
LATER = replace(SHORT, num_steps=2)
# As `tiny`, with fewer steps; the finish is a search in the dream, which has to be on the device.
SMALL = replace(
    TINY,
    collect=CollectConfig(episodes=6),
    later_episodes=2,
    vae=replace(TINY.vae, fit=SHORT, later=LATER),
    memory=replace(TINY.memory, fit=SHORT, later=LATER, num_hidden=8, ensemble_size=2),
    dream_search=replace(
        TINY.dream_search,
        hidden=4,
        temperature=0.0,
        eval_episodes=1,
        selection_episodes=1,
        pathwise=replace(
            TINY.dream_search.pathwise,
            fit=SHORT,
            later=LATER,
            learner=replace(TINY.dream_search.pathwise.learner, horizon=3, critic_width=8),
        ),
    ),
    evaluation_episodes=1,
)
FINETUNE = replace(
    SMALL.dream_search,
    search="cmaes",
    cmaes=replace(SMALL.dream_search.cmaes, later_generations=1, horizon=3),
)
SMALL = replace(SMALL, finetune=FINETUNE)


@pytest.fixture(autouse=True)
def _small_and_without_plots(monkeypatch):
    monkeypatch.setitem(presets._PRESETS, "tiny", SMALL)
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())


def test_a_run_takes_the_gpu_and_learns_what_it_learns_on_the_cpu(tmp_path):
    requested = ("--preset", "tiny", "--env", BOX_ID, "--rounds", 2, "--workers", 1)
    search = mock.Mock(wraps=pipeline.train_controller)
    with emulated_device(), mock.patch.object(pipeline, "train_controller", search):
        done = wm("run", "--run", tmp_path / "gpu", *requested)
        assert done.code == 0, done.error
        assert [call.kwargs["device"] for call in search.call_args_list] == ["cuda"] * 3
        of_run = ("--run", tmp_path / "gpu")
        wm_json("evaluate-memory", *of_run, "--horizon", 4, "--starts", 2)
        video = wm_json("dream", *of_run, "--out", tmp_path / "dream.gif", "--horizon", 2)
        assert video["frames"] > 0
        assert wm_json("info")["device"] == "emulated device"
    wm_json("run", "--run", tmp_path / "cpu", "--device", "cpu", *requested)
    for name in ("vision/vision", "memory/memory", "controller/agent", "best"):
        on_gpu, on_cpu = (load_file(tmp_path / at / f"{name}.safetensors") for at in ("gpu", "cpu"))
        assert on_gpu.keys() == on_cpu.keys()
        assert all(torch.equal(on_gpu[key], on_cpu[key]) for key in on_cpu), name


@pytest.mark.parametrize("cell", ["fsq-1", "fsq-1-z"])
def test_a_comparison_works_on_the_gpu(cell, tmp_path):
    """Each part of it is handed the device; what it does there is seen above."""
    parts = ("run_pipeline", "ablation_measures", "world_measures", "dream_measures")
    others = ("agent_measures", "curve_measures", "write_page")
    with contextlib.ExitStack() as stack:
        stack.enter_context(emulated_device())
        spies = {
            name: stack.enter_context(mock.patch.object(compare, name, return_value={}))
            for name in (*parts, *others)
        }
        wm_json("compare", "--only", cell, "--docs", tmp_path, "--runs", tmp_path, "--workers", 1)
    called = {name for name in parts if spies[name].called}
    expected = set(parts) - {"ablation_measures"} if cell == "fsq-1" else set(parts[:2])
    assert called == expected
    for name in called:
        call = spies[name].call_args
        assert "cuda" in (*call.args, *call.kwargs.values()), name


def test_an_ablation_searches_on_the_gpu(tmp_path):
    run = tiny_run(tmp_path / "run", "fsq")
    returned = {"parameters": 1, "real_score": 0.0, "real_std": 0.0, "selection_episodes": 1}
    with mock.patch.object(
        ablation, "train_controller", return_value={**returned, "history": []}
    ) as search:
        ablation.ablation_measures(
            run, "z", ABLATIONS["z"], ablation.ABLATION, Workers(1), Report(quiet=True), "cuda"
        )
    assert search.call_args.kwargs["device"] == "cuda"
