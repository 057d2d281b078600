"""C by gradients in the dream, selected by its real score on the monitoring episodes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from agents.evaluation import Scores
from worldmodels.controller.actor_critic import ActorCritic
from worldmodels.controller.agent import Agent
from worldmodels.controller.pathwise import PathwiseActorCritic, PathwiseConfig
from worldmodels.controller.ppo import PPOActorCritic, PPOConfig
from worldmodels.controller.search_log import Stopwatch, search_log
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.starts import StartStates
from worldmodels.errors import reading
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig, Metrics, fit
from worldmodels.training.stage import TrainingStageConfig

RESUME = "resume.safetensors"  # where `fit` keeps a training under way


@dataclass(frozen=True, kw_only=True)
class GradientConfig(TrainingStageConfig):
    """How C climbs.

    Attributes:
        fit, later: optimizer steps; their batches are so many dreams each.
        learner: how the gradient is made.
    """

    learner: PathwiseConfig | PPOConfig

    def with_steps(self, num_steps: int | None) -> "GradientConfig":
        """The same for so many optimizer steps, evaluated as often; None changes nothing.

        Searches over latents and over codes then still select among equally many evaluations.
        """
        if num_steps is None:
            return self

        def scaled(fit: FitConfig) -> FitConfig:
            count = math.ceil(fit.num_steps / fit.validate_every)
            every = max(1, math.ceil(num_steps / count))
            return replace(fit, num_steps=num_steps, validate_every=every)

        return replace(self, fit=scaled(self.fit), later=scaled(self.later))

    def with_lengths(self, num_steps: int | None, horizon: int | None) -> "GradientConfig":
        """The same with so many steps, and so many agent steps per dream; None changes nothing."""
        config = self.with_steps(num_steps)
        if horizon is None:
            return config
        return replace(config, learner=replace(config.learner, horizon=horizon))


def search_by_gradient(
    agent: Agent,
    start: np.ndarray | None,
    config: GradientConfig,
    dream: DreamModel,
    starts: StartStates,
    real_score: Callable[[np.ndarray], Scores],
    *,
    reward_scale: float,
    work: StageFolder,
    seed: int,
    round_: int,
    report: Report,
) -> tuple[np.ndarray, dict[str, Any]]:
    """C's parameters (D,) with the best real score among those evaluated, and the history.

    Args:
        start: parameters to begin at, (D,); None begins at random ones.
        real_score: scores in the real env of an agent with these parameters (D,).
        reward_scale: see `ActorCritic`.
    """
    steps = config.in_round(round_)
    torch.manual_seed(seed)
    first = None if start is None else torch.from_numpy(start).float()[None]
    settings = (agent.controller, agent.spec.action_map, dream, reward_scale, first)
    learner: ActorCritic
    if isinstance(config.learner, PathwiseConfig):
        learner = PathwiseActorCritic(config.learner, *settings)
    else:
        learner = PPOActorCritic(
            config.learner, *settings, num_dreams=steps.batch_size, num_steps=steps.num_steps
        )
    learner.to(dream.device)

    def batch_at(step: int, generator: torch.Generator) -> DreamState:
        return starts.sample(steps.batch_size, generator)

    per_step = learner.agent_steps_per_update(steps.batch_size)
    last: Metrics = {}
    done, evaluations, clock = _so_far(work, per_step)

    def validate() -> Metrics:
        figures = {
            "dreamed_return": last["dreamed_return"],
            "seconds": clock.seconds,
            "steps": clock.steps,
            "steps_per_second": clock.steps_per_second,
        }
        started = time.monotonic()
        with clock.paused():
            scores = real_score(learner.ema_params[0].cpu().double().numpy())
        return {
            "loss": -scores.mean,
            "eval_seconds": time.monotonic() - started,
            "real_score": scores.mean,
            "eval_env_steps": scores.env_steps,
            **figures,
        }

    with search_log(work, report, "step", steps.num_steps, done) as log:

        def on_step(step: int, metrics: Metrics) -> None:
            if "loss" in metrics:
                last.update(metrics)
                clock.steps = step * per_step
                shown = {name: value for name, value in metrics.items() if name != "loss"}
                log.progress(step, shown, sparse=True)
            else:
                figures = _shown({name.removeprefix("val/"): v for name, v in metrics.items()})
                evaluations.append({"step": step, **figures})
                log.tell(step, figures)
                log.draw(evaluations)

        fitted = fit(
            learner, batch_at, validate, steps, seed=seed, folder=work.partial, on_step=on_step
        )
        history = [_shown(entry) for entry in fitted.history]
        log.draw(history)
    best = next(h["real_score"] for h in history if h["step"] == fitted.best_step)
    return learner.ema_params[0].cpu().double().numpy(), {
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "eval_score": best,
        "env_steps": {"monitored": sum(int(entry["eval_env_steps"]) for entry in history)},
        "history": history,
    }


def _so_far(work: StageFolder, per_step: float) -> tuple[int, list[Metrics], Stopwatch]:
    """Steps, evaluations and time of a search that was stopped; none of a new one."""
    saved = work.partial / RESUME
    if not saved.exists():
        return 0, [], Stopwatch()
    hint = f"delete {saved} to start again"
    figures = load_checkpoint(saved, hint=hint).metadata
    with reading(saved, hint):
        step, evaluations = figures["step"], figures["history"]
        searched = figures["seconds"] - sum(entry["eval_seconds"] for entry in evaluations)
        return step, [_shown(entry) for entry in evaluations], Stopwatch(searched, step * per_step)


def _shown(entry: Metrics) -> Metrics:
    """Without what only the fit and a resume need."""
    return {name: value for name, value in entry.items() if name not in ("loss", "eval_seconds")}
