"""Search for C by gradients in the dream.

If C is evaluated on monitoring episodes during the search, the result is the C with the best score.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from worldmodels.controller.actor_critic import ActorCritic, DreamTask
from worldmodels.controller.pathwise import PathwiseActorCritic, PathwiseConfig
from worldmodels.controller.ppo import PPOActorCritic, PPOConfig
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.search_log import SearchLog, Stopwatch
from worldmodels.dream.starts import StartStates
from worldmodels.errors import reading
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import Metrics, fit
from worldmodels.training.stage import TrainingStageConfig

RESUME = "resume.safetensors"  # the checkpoint that `fit` writes while it trains


@dataclass(frozen=True, kw_only=True)
class GradientConfig(TrainingStageConfig):
    """Settings of the search for C by gradients.

    Attributes:
        fit, later: settings of the fit in the first round and in later rounds; `batch_size` is the
            number of dreams per batch.
        learner: settings of the method that computes the gradient.
    """

    learner: PathwiseConfig | PPOConfig

    def with_steps(self, num_steps: int | None) -> "GradientConfig":
        """The config for `num_steps` optimizer steps, with an unchanged number of evaluations.

        Searches over latents and searches over codes therefore still select their results from
        equally many evaluations. If `num_steps` is None, the whole config is unchanged.
        """
        if num_steps is None:
            return self
        fits = {"fit": self.fit, "later": self.later}
        for name, each in fits.items():
            count = math.ceil(each.num_steps / each.validate_every)
            every = max(1, math.ceil(num_steps / count))
            fits[name] = replace(each, num_steps=num_steps, validate_every=every)
        return replace(self, fit=fits["fit"], later=fits["later"])

    def with_lengths(self, num_steps: int | None, horizon: int | None) -> "GradientConfig":
        """The config for `num_steps` optimizer steps and dreams of `horizon` agent steps.

        An argument that is None changes nothing.
        """
        config = self.with_steps(num_steps)
        if horizon is None:
            return config
        return replace(config, learner=replace(config.learner, horizon=horizon))


class GradientSearch:
    """Trains C in the dream.

    The result is the evaluated C with the best score in the real env. If the search has no
    evaluations, the result is the last C.

    Args:
        starts: states at which dreams begin.
    """

    def __init__(
        self, config: GradientConfig, task: DreamTask, starts: StartStates, context: SearchContext
    ) -> None:
        self.context, self.starts = context, starts
        self.fit_config = fit_config = config.in_round(context.round_)
        torch.manual_seed(context.seed)
        self.learner: ActorCritic
        if isinstance(config.learner, PathwiseConfig):
            self.learner = PathwiseActorCritic(config.learner, task)
        else:
            self.learner = PPOActorCritic(config.learner, task, fit_config)
        self.learner.to(task.dream.device)
        self.agent_steps = self.learner.agent_steps_per_update(fit_config.batch_size)
        self.dreamed_return = math.nan
        self.done, self.evaluations, self.clock = _so_far(context.work, self.agent_steps)

    def run(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Run the search; return C's parameters (D,), and metrics with the search's history."""
        config = self.fit_config
        with self.context.log("step", config.num_steps, self.done) as log:
            fitted = fit(
                self.learner,
                lambda step, generator: self.starts.sample(config.batch_size, generator),
                self._validate,
                config,
                seed=self.context.seed,
                folder=self.context.work.partial,
                on_step=lambda step, metrics: self._on_step(step, metrics, log),
            )
            history = [_shown(entry) for entry in fitted.history]
            log.draw(history)
        best = next(h for h in history if h["step"] == fitted.best_step)
        monitored = sum(int(entry.get("eval_env_steps", 0)) for entry in history)
        return self._parameters(), {
            "steps": fitted.steps,
            "best_step": fitted.best_step,
            "eval_score": best.get("real_score"),
            "env_steps": {"monitored": monitored},
            "history": history,
        }

    def _parameters(self) -> np.ndarray:
        parameters: np.ndarray = self.learner.ema_params[0].cpu().double().numpy()
        return parameters

    def _validate(self) -> Metrics:
        return {
            **self._evaluate(),
            "dreamed_return": self.dreamed_return,
            "seconds": self.clock.seconds,
            "steps": self.clock.steps,
            "steps_per_second": self.clock.steps_per_second,
        }

    def _evaluate(self) -> Metrics:
        """Evaluate C in the real env; without evaluations, a later C counts as better."""
        if self.context.real_score is None:
            return {"loss": -self.clock.steps, "eval_seconds": 0.0}
        started = time.monotonic()
        with self.clock.paused():
            scores = self.context.real_score(self._parameters())
        return {
            "loss": -scores.mean,
            "eval_seconds": time.monotonic() - started,
            "real_score": scores.mean,
            "eval_env_steps": scores.env_steps,
        }

    def _on_step(self, step: int, metrics: Metrics, log: SearchLog) -> None:
        if "loss" in metrics:
            self.dreamed_return = metrics["dreamed_return"]
            self.clock.steps = step * self.agent_steps
            log.progress(step, _shown(metrics), sparse=True)
        else:
            figures = _shown({name.removeprefix("val/"): v for name, v in metrics.items()})
            self.evaluations.append({"step": step, **figures})
            log.record(step, figures)
            log.draw(self.evaluations)


def _so_far(work: StageFolder, per_step: float) -> tuple[int, list[Metrics], Stopwatch]:
    """The number of steps, the evaluations and the stopwatch of a stopped or of a new search."""
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
    """The metrics of an entry, without those that only `fit` and a resumed search need."""
    return {name: value for name, value in entry.items() if name not in ("loss", "eval_seconds")}
