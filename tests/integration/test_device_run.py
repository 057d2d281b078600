"""A whole run uses the GPU of a machine if the user does not give `--device`."""

import contextlib
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from agents.workers import Workers
from scripts.experiments.__main__ import main
from scripts.experiments.experiment import Context
from scripts.experiments.quantized import ablation, study
from tests.fixtures.command import wm, wm_json
from tests.fixtures.counting_env import BOX_ID
from tests.fixtures.emulated_device import emulated_device
from tests.fixtures.tiny_run import tiny_run
from worldmodels import pipeline, presets
from worldmodels.presets import TINY
from worldmodels.progress import Report
from worldmodels.stages.collect import CollectConfig
from worldmodels.stages.train_controller import train_controller
from worldmodels.training.fit import FitConfig

SHORT = FitConfig(12, 6, learning_rate=1e-3, validate_every=6)
LATER = replace(SHORT, num_steps=2)
# The preset `tiny` with fewer steps. Fine-tuning searches in the dream, so it uses the device.
SMALL = replace(
    TINY,
    collect=CollectConfig(env_steps=1_800, max_episode_steps=240),  # six episodes, later two
    later_env_steps=600,
    vae=replace(TINY.vae, fit=SHORT, later=LATER),
    memory=replace(
        TINY.memory,
        fit=SHORT,
        later=LATER,
        model=replace(TINY.memory.model, num_hidden=8),
        ensemble_size=2,
    ),
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
def _small_and_without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", SMALL)
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())


def test_a_run_takes_the_gpu_and_learns_what_it_learns_on_the_cpu(tmp_path: Path) -> None:
    requested = ("--preset", "tiny", "--env", BOX_ID, "--rounds", 2, "--workers", 1)
    search = mock.Mock(wraps=train_controller)
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


@pytest.mark.parametrize("name", ["fsq-1", "fsq-1-z"])
def test_the_study_works_on_the_gpu(name: str, tmp_path: Path) -> None:
    """Each part of the study is called with the device; other tests check what the parts do."""
    parts = ("run_pipeline", "world_measures", "dream_check")
    empty: dict[str, dict[str, float]] = {"scores": {}, "horizons": {}}
    with contextlib.ExitStack() as stack:
        stack.enter_context(emulated_device())
        spies = {
            part: stack.enter_context(mock.patch.object(study, part, return_value=empty))
            for part in (*parts, "agent_measures", "curve_measures", "draw_page")
        }
        for part in ("ablation_measures", "draw_page"):
            spies[part] = stack.enter_context(mock.patch.object(ablation, part, return_value={}))
        kind = "ablation" if name.endswith("z") else "quantized"
        folders = ("--docs", str(tmp_path), "--runs", str(tmp_path))
        assert main([kind, "--only", name, *folders, "--workers", "1"]) == 0
    called = {part for part in (*parts, "ablation_measures") if spies[part].called}
    expected = set(parts) if kind == "quantized" else {"run_pipeline", "ablation_measures"}
    assert called == expected
    for part in called:
        call = spies[part].call_args
        given = [*call.args, *call.kwargs.values()]
        assert "cuda" in [getattr(each, "device", each) for each in given], part


def test_an_ablation_searches_on_the_gpu(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", "fsq")
    returned = {"parameters": 1, "real_score": 0.0, "real_std": 0.0, "selection_episodes": 1}
    context = Context(tmp_path, tmp_path, Workers(1), Report(quiet=True), "cuda")
    with mock.patch.object(
        ablation, "train_controller", return_value={**returned, "history": []}
    ) as search:
        ablation.ablation_measures(run, "z", ablation.SEARCH, context)
    assert search.call_args.kwargs["device"] == "cuda"
