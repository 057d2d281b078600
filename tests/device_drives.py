"""Every stage that computes on a device, as small as it can be: what it leaves and what it reports.

A drive takes an empty folder and a device and returns named tensors and figures on the CPU, none
of which depend on the machine's speed.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file

import worldmodels
from agents.rollout import Rollout
from agents.workers import Workers
from tests.device_runs import (
    CONTROLLER,
    FIT,
    QUIET,
    agent_run,
    frames_run,
    made,
    run_with_prior,
    world_run,
)
from tests.tiny_models import rollout
from tests.tiny_run import actions_of, tiny_run
from worldmodels.comparison import measures
from worldmodels.run import Run
from worldmodels.stages.controller import train_controller
from worldmodels.stages.dream_check import DreamCheckConfig, dream_check
from worldmodels.stages.evaluate_memory import EvaluateMemoryConfig, evaluate_memory
from worldmodels.stages.memory import MemoryStageConfig, train_memory
from worldmodels.stages.plausibility import PlausibilityConfig, measure_plausibility
from worldmodels.stages.sample import SampleConfig, sample_frames
from worldmodels.stages.vision import VisionStageConfig, train_vision
from worldmodels.training import FitConfig
from worldmodels.vision import CategoricalVAEConfig, VAEConfig, VisionConfig, VQVAEConfig

Outcome = tuple[dict[str, torch.Tensor], dict[str, Any]]
Drive = Callable[[Path, str], Outcome]
LEAN = {"channels": 4, "decoder_channels": 4, "background_weight": 0.5, "rare_weight": 2.0}
VISIONS: dict[str, VisionConfig] = {
    "lean VAE": VAEConfig(3, network="lean", **LEAN),
    "VQ": VQVAEConfig("vq", codebook_size=6, code_size=3, **LEAN),
    "FSQ": VQVAEConfig("fsq", levels=(4, 3), **LEAN),
    "score": CategoricalVAEConfig(codebook_size=5, code_size=3, num_samples=2, **LEAN),
    "straight-through": CategoricalVAEConfig(
        codebook_size=5, code_size=3, estimator="straight-through", num_samples=1, **LEAN
    ),
}


def vision_drive(model: VisionConfig, fit: FitConfig = FIT) -> Drive:
    """Train V, and once more on from there in a second round."""

    def drive(folder: Path, device: str) -> Outcome:
        run = made(folder, frames_run)
        config = VisionStageConfig(model=model, fit=fit, later=replace(fit, num_steps=2))
        train_vision(run, config, report=QUIET, device=device)
        result = train_vision(run, config, report=QUIET, device=device, round_=2)
        return left_by(run, "vision"), timeless(result)

    return drive


def memory_drive(kind: str, members: int) -> Drive:
    """Train M on windows with a burn-in, and once more on from there in a second round."""

    def drive(folder: Path, device: str) -> Outcome:
        run = made(folder, world_run, kind, 1)
        config = MemoryStageConfig(
            fit=FIT,
            later=replace(FIT, num_steps=2),
            num_hidden=6,
            num_mixtures=2,
            head_width=8,
            predict_change=True,
            members=members,
            sequence_length=2,
            burn_in=1,
        )
        train_memory(run, config, report=QUIET, device=device)
        result = train_memory(run, config, report=QUIET, device=device, round_=2)
        return left_by(run, "memory"), timeless(result)

    return drive


def prior_drive(folder: Path, device: str) -> Outcome:
    run = run_with_prior(folder, device)
    return left_by(run, "prior"), timeless(run.result("prior") or {})


def controller_drive(kind: str, members: int, **changes: Any) -> Drive:
    def drive(folder: Path, device: str) -> Outcome:
        run = made(folder, world_run, kind, members)
        config = replace(CONTROLLER, **changes)
        result = train_controller(run, config, workers=Workers(1), report=QUIET, device=device)
        return left_by(run, "controller", "agent"), timeless(result)

    return drive


def evaluation_drive(kind: str, members: int) -> Drive:
    """Evaluate M, with the settings that M was trained with."""

    def drive(folder: Path, device: str) -> Outcome:
        memory_drive(kind, members)(folder, "cpu")
        config = EvaluateMemoryConfig(steps=2, starts=3, samples=2)
        return {}, timeless(evaluate_memory(Run(folder), config, report=QUIET, device=device))

    return drive


def dream_check_drive(kind: str, members: int) -> Drive:
    def drive(folder: Path, device: str) -> Outcome:
        run = agent_run(folder, kind, members)
        checked = DreamCheckConfig(agents=2, episodes=1, starts=3, samples=2)
        with mock.patch("worldmodels.stages.dream_check.HORIZONS", (2, 6)):
            return {}, dream_check(run, checked, workers=Workers(1), report=QUIET, device=device)

    return drive


def measures_drive(folder: Path, device: str) -> Outcome:
    """V and M of a run's agent on drives, which are made up here."""
    run = agent_run(folder, "fsq", 1)

    def drive(seed: int, **settings: Any) -> Rollout:
        return rollout(12, seed=seed)

    with mock.patch.object(measures, "drive", drive), mock.patch.object(measures, "HORIZON", 4):
        return {}, timeless(
            measures.world_measures(run, 2, QUIET, folder / "codes.png", device=device)
        )


def make_dream_drive(kind: str, start: str, render: bool) -> Drive:
    """Steps of a vector environment, in which dreams end and begin anew."""

    def drive(folder: Path, device: str) -> Outcome:
        run = tiny_run(folder, kind, end_logit=-1.0)
        dreams = worldmodels.make_dream(
            run, num_envs=3, start=start, horizon=3, render_frames=render, device=device
        )
        steps = [dreams.reset(seed=0)[0]]
        assert dreams.dreams.state.alive.device.type == device
        rewards = []
        for actions in actions_of(dreams, 6):
            observations, reward, *_ = dreams.step(actions)
            steps.append(observations)
            rewards.append(reward)
        return {
            "observations": torch.from_numpy(np.stack(steps)),
            "rewards": torch.from_numpy(np.stack(rewards)),
        }, {}

    return drive


def sample_drive(from_prior: bool) -> Drive:
    def drive(folder: Path, device: str) -> Outcome:
        run = run_with_prior(folder, "cpu") if from_prior else tiny_run(folder)
        out, config = folder / "drawn.png", SampleConfig(prior=from_prior, count=5)
        result = sample_frames(run, out, config, report=QUIET, device=device)
        return {"picture": torch.frombuffer(bytearray(out.read_bytes()), dtype=torch.uint8)}, {
            name: value for name, value in result.items() if name != "picture"
        }

    return drive


def surprise_drive(folder: Path, device: str) -> Outcome:
    run = run_with_prior(folder, "cpu")
    config = PlausibilityConfig(starts=3, decisions=2)
    result = measure_plausibility(run, config, report=QUIET, device=device)
    drawn = result.pop("prior_samples")  # whose random numbers depend on the device
    result.pop("independent_positions")
    assert np.isfinite(drawn)
    return {}, result


def left_by(run: Run, stage: str, file: str | None = None) -> dict[str, torch.Tensor]:
    """The weights that a stage left."""
    return load_file(run.folder / stage / f"{file or stage}.safetensors")


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """The result without what depends on the machine's speed."""

    def without(part: Any) -> Any:
        if isinstance(part, dict):
            return {k: without(v) for k, v in part.items() if "second" not in k}
        return [without(each) for each in part] if isinstance(part, list) else part

    return json.loads(json.dumps(without(result)))


DRIVES: dict[str, Drive] = {
    **{f"V: {name}": vision_drive(model) for name, model in VISIONS.items()},
    "V: paper VAE": vision_drive(VAEConfig(), FitConfig(2, 4, validate_every=2)),
    "M: latents": memory_drive("box", 1),
    "M: latents, two members": memory_drive("box", 2),
    "M: codes": memory_drive("fsq", 1),
    "M: codes, two members": memory_drive("fsq", 2),
    "M: codes of a codebook": memory_drive("vq", 1),
    "prior": prior_drive,
    "C: pathwise": controller_drive("box", 1),
    "C: pathwise, two members": controller_drive("box", 2),
    "C: PPO": controller_drive("fsq", 1),
    "C: PPO, two members": controller_drive("fsq", 2),
    "C: PPO over a codebook": controller_drive("vq", 1),
    # Without noise: the generator's numbers come in another order than on the CPU.
    "C: CMA-ES": controller_drive("box", 1, search="evolution", temperature=0.0),
    "C: CMA-ES over codes": controller_drive("fsq", 1, search="evolution", temperature=0.0),
    "evaluate M: latents": evaluation_drive("box", 1),
    "evaluate M: codes, two members": evaluation_drive("fsq", 2),
    "dream check: latents, two members": dream_check_drive("box", 2),
    "dream check: codes": dream_check_drive("fsq", 1),
    "measures of a world": measures_drive,
    "make_dream: latents": make_dream_drive("vae", "real", render=False),
    "make_dream: codes": make_dream_drive("fsq", "reset", render=False),
    "make_dream: frames": make_dream_drive("vae", "reset", render=True),
    "sample: latents": sample_drive(from_prior=False),
    "sample: codes": sample_drive(from_prior=True),
    "surprise": surprise_drive,
}
