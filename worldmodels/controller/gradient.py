"""C by gradients in the dream, selected by its real score on the monitoring episodes."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from worldmodels.controller.actor_critic import ActorCritic
from worldmodels.controller.agent import Agent
from worldmodels.controller.pathwise import PathwiseActorCritic, PathwiseConfig
from worldmodels.controller.ppo import PPOActorCritic, PPOConfig
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.search_log import SearchLog, Stopwatch, search_log
from worldmodels.dream.model import DreamModel, DreamState
from worldmodels.dream.starts import StartStates
from worldmodels.errors import reading
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig, Metrics, fit
from worldmodels.training.stage import TrainingStageConfig

RESUME = "resume.safetensors"  # where `fit` keeps a training under way


@dataclass(frozen=True, kw_only=True)
class GradientConfig(TrainingStageConfig):
    """How C is trained.

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


@dataclass(frozen=True)
class DreamSource:
    """What a search in the dream needs of it; `reward_scale`: see `ActorCritic`."""

    model: DreamModel
    starts: StartStates
    reward_scale: float


class GradientSearch:
    """Trains C in the dream; leaves the C that scored best of those evaluated in the real env.

    Args:
        agent: whose C is searched.
        start: parameters to begin at, (D,); None begins at random ones.
    """

    def __init__(
        self,
        agent: Agent,
        start: np.ndarray | None,
        config: GradientConfig,
        dream: DreamSource,
        context: SearchContext,
    ) -> None:
        self.context, self.starts = context, dream.starts
        self.fit_config = steps = config.in_round(context.round_)
        torch.manual_seed(context.seed)
        first = None if start is None else torch.from_numpy(start).float()[None]
        settings = (
            *(agent.controller, agent.spec.action_map),
            *(dream.model, dream.reward_scale, first),
        )
        self.learner: ActorCritic
        if isinstance(config.learner, PathwiseConfig):
            self.learner = PathwiseActorCritic(config.learner, *settings)
        else:
            self.learner = PPOActorCritic(
                config.learner, *settings, num_dreams=steps.batch_size, num_steps=steps.num_steps
            )
        self.learner.to(dream.model.device)
        self.agent_steps = self.learner.agent_steps_per_update(steps.batch_size)
        self.last: Metrics = {}
        self.done, self.evaluations, self.clock = _so_far(context.work, self.agent_steps)

    def run(self) -> tuple[np.ndarray, dict[str, Any]]:
        """C's parameters (D,), and the figures of the search with their history."""
        work, steps = self.context.work, self.fit_config
        report = self.context.report
        with search_log(work, report, "step", steps.num_steps, self.done) as log:
            fitted = fit(
                self.learner,
                self._batch_at,
                self._validate,
                steps,
                seed=self.context.seed,
                folder=work.partial,
                on_step=lambda step, metrics: self._on_step(step, metrics, log),
            )
            history = [_shown(entry) for entry in fitted.history]
            log.draw(history)
        best = next(h["real_score"] for h in history if h["step"] == fitted.best_step)
        return self._parameters(), {
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "eval_score": best,
            "env_steps": {"monitored": sum(int(entry["eval_env_steps"]) for entry in history)},
            "history": history,
        }

    def _batch_at(self, step: int, generator: torch.Generator) -> DreamState:
        return self.starts.sample(self.fit_config.batch_size, generator)

    def _parameters(self) -> np.ndarray:
        parameters: np.ndarray = self.learner.ema_params[0].cpu().double().numpy()
        return parameters

    def _validate(self) -> Metrics:
        figures = {
            "dreamed_return": self.last["dreamed_return"],
            "seconds": self.clock.seconds,
            "steps": self.clock.steps,
            "steps_per_second": self.clock.steps_per_second,
        }
        started = time.monotonic()
        with self.clock.paused():
            scores = self.context.real_score(self._parameters())
        return {
            "loss": -scores.mean,
            "eval_seconds": time.monotonic() - started,
            "real_score": scores.mean,
            "eval_env_steps": scores.env_steps,
            **figures,
        }

    def _on_step(self, step: int, metrics: Metrics, log: SearchLog) -> None:
        if "loss" in metrics:
            self.last.update(metrics)
            self.clock.steps = step * self.agent_steps
            shown = {name: value for name, value in metrics.items() if name != "loss"}
            log.progress(step, shown, sparse=True)
        else:
            figures = _shown({name.removeprefix("val/"): v for name, v in metrics.items()})
            self.evaluations.append({"step": step, **figures})
            log.record(step, figures)
            log.draw(self.evaluations)


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
