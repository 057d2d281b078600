"""Search for C by CMA-ES, in the dream or in the real game."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.cmaes import CMAES, GenerationStats, evolve
from worldmodels.controller.fitness import CMAESConfig, Fitness
from worldmodels.controller.search_context import SearchContext
from worldmodels.controller.search_log import SearchLog, Stopwatch
from worldmodels.errors import reading
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint

SEARCH = "search.safetensors"
CHECKPOINT_SECONDS = 20.0

Checkpoint = tuple[dict[str, torch.Tensor], dict[str, Any]]


@dataclass
class Selected:
    """The parameters (D,) that would be the result if the search ended now."""

    mean: np.ndarray
    score: float = -math.inf
    generation: int = 0


class CMAESSearch:
    """A search by CMA-ES, which can be stopped and resumed.

    The result is the mean of the search distribution, averaged over the last
    `config.averaged_generations` generations. If `config.select_best` is true, the result is
    instead the evaluated average with the best score in the real env.

    Args:
        start: C's initial parameters (D,), at which the search distribution begins.
        evaluate_start: whether `start` is evaluated too, so that `start` can be the result. This
            has an effect only if `config.select_best` is true.
        num_fixed: number of fixed parameters. The first `num_fixed` parameters are not searched,
            and keep their values in `start`.

    Raises: UserError if an unfinished search was saved with another version of cma or of numpy than
        the installed version.
    """

    def __init__(
        self,
        start: np.ndarray,
        config: CMAESConfig,
        fitness: Fitness,
        context: SearchContext,
        evaluate_start: bool = False,
        num_fixed: int = 0,
    ) -> None:
        self.config, self.fitness, self.context = config, fitness, context
        self.generations = config.later_generations if context.round_ > 1 else config.generations
        self.evaluate_start = config.select_best and evaluate_start
        self._fixed, first = np.split(start, [num_fixed])
        self.search = CMAES(
            len(first),
            sigma0=config.sigma0,
            population=config.population,
            diagonal=config.covariance == "diagonal",
            seed=context.seed,
            mean=first,
        )
        self.selected = Selected(self.search.mean)
        saved = self._resume() if self._file.exists() else {}
        self.history: list[dict[str, float]] = saved.get("history", [])
        self.clock = Stopwatch(saved.get("seconds", 0.0), saved.get("steps", 0))
        self._first_steps = self.clock.steps
        self._saved_at = time.monotonic()
        # Ctrl-C may come during an evaluation, when the search is ahead of its history.
        self._last_whole = self._checkpoint()

    def run(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Run the search; return C's parameters (D,), and metrics with the search's history."""
        done = self.search.generation
        with self.context.log("generation", self.generations, done) as log:
            if self.evaluate_start and not self.history:
                scores = self._evaluate_mean()
                self.history.append({"generation": 0, "seconds": 0.0, "steps": 0, **scores})
                self._last_whole = self._checkpoint()
            try:
                evolve(
                    self.search,
                    lambda part, generation: self.fitness(self._whole(part), generation),
                    self.generations,
                    lambda stats: self._on_generation(stats, log),
                )
            except KeyboardInterrupt:
                # Save the generations that ended; the unfinished one starts again on a resume.
                save_checkpoint(self._file, *self._last_whole)
                raise
            log.draw(self.history)
        last = self.history[-1]
        monitored = sum(int(entry.get("eval_env_steps", 0)) for entry in self.history)
        return self._whole(self.selected.mean), {
            "generations": self.search.generation,
            "selected_generation": self.selected.generation,
            "fitness": last["mean"],
            "best_fitness": last["best"],
            "sigma": last["sigma"],
            "eval_score": None if self.context.real_score is None else self.selected.score,
            "env_steps": {"monitored": monitored},
            "history": self.history,
        }

    def _on_generation(self, stats: GenerationStats, log: SearchLog) -> bool:
        """Record a generation, and evaluate and save if due; return whether the search ends now."""
        clock, generation = self.clock, self.search.generation
        clock.steps = self._first_steps + self.fitness.steps
        figures = {
            **{name: getattr(stats, name) for name in ("best", "mean", "std", "sigma")},
            "seconds": round(clock.seconds, 2),
            "steps": clock.steps,
            "steps_per_second": round(clock.steps_per_second, 1),
        }
        limit = self.config.max_minutes
        is_over = limit is not None and clock.seconds > 60 * limit
        is_due = generation % self.config.validate_every == 0
        if is_over or is_due or generation == self.generations:
            figures |= self._evaluate_mean()
        self.history.append({"generation": generation, **figures})
        self._last_whole = self._checkpoint()
        log.progress(generation, figures)
        if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            save_checkpoint(self._file, *self._last_whole)
            log.draw(self.history)
            self._saved_at = time.monotonic()
        return is_over

    def _evaluate_mean(self) -> dict[str, float]:
        mean = self.search.recent_mean(self.config.averaged_generations)
        if self.context.real_score is None:
            self.selected = Selected(mean, generation=self.search.generation)
            return {}
        with self.clock.paused():
            scores = self.context.real_score(self._whole(mean))
        if not self.config.select_best or scores.mean > self.selected.score:
            self.selected = Selected(mean, scores.mean, self.search.generation)
        return {"real_score": scores.mean, "eval_env_steps": scores.env_steps}

    def _whole(self, searched: np.ndarray) -> np.ndarray:
        """All of C's parameters (..., D): the fixed parameters, then the searched parameters."""
        fixed = np.broadcast_to(self._fixed, (*searched.shape[:-1], len(self._fixed)))
        return np.concatenate([fixed, searched], axis=-1)

    @property
    def _file(self) -> Path:
        return self.context.work.partial / SEARCH

    def _checkpoint(self) -> Checkpoint:
        state = self.search.state_dict()
        settings = state.pop("settings")
        arrays = {**state, "selected": self.selected.mean}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, {
            "settings": settings,
            "history": list(self.history),
            "seconds": self.clock.seconds,
            "steps": self.clock.steps,
            "selected_score": self.selected.score,
            "selected_generation": self.selected.generation,
        }

    def _resume(self) -> dict[str, Any]:
        """Restore the saved search, and return the metadata that was saved with the search."""
        hint = f"delete {self.context.work.partial} to start again"
        saved = load_checkpoint(self._file, hint=hint)
        arrays = {name: tensor.numpy() for name, tensor in saved.tensors.items()}
        figures = saved.metadata
        with reading(self._file, hint):
            score, generation = figures["selected_score"], figures["selected_generation"]
            self.selected = Selected(arrays["selected"], score, generation)
            self.search = CMAES.from_state_dict({**arrays, **figures})
        return figures
