"""C by CMA-ES, in the dream or in the real game."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.cmaes import CMAES, GenerationStats, evolve
from agents.evaluation import Scores
from worldmodels.controller.fitness import CMAESConfig, Fitness
from worldmodels.controller.search_log import Stopwatch, search_log
from worldmodels.errors import reading
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.stage_folder import StageFolder

SEARCH = "search.safetensors"
CHECKPOINT_SECONDS = 20.0


def search_by_cmaes(
    start: np.ndarray,
    config: CMAESConfig,
    fitness: Fitness,
    real_score: Callable[[np.ndarray], Scores],
    *,
    evaluate_start: bool = False,
    work: StageFolder,
    seed: int,
    round_: int,
    report: Report,
) -> tuple[np.ndarray, dict[str, Any]]:
    """A mean of the search distribution, (D,), and the history of the generations.

    The last one, averaged over `config.averaged_generations` generations, or of those evaluated the
    one with
    the best real score: see `config.select_best`.

    Args:
        start: parameters the distribution begins at, (D,).
        real_score: scores in the real env of an agent with these parameters (D,).
        evaluate_start: with `config.select_best`, let the start be one of those selected among.

    Raises: UserError where a search under way was saved by other versions.
    """
    generations = config.generations_in(round_)
    search, best, saved = _new_or_resumed(work, config, seed, start)
    history: list[dict[str, float]] = saved.get("history", [])
    clock = Stopwatch(saved.get("seconds", 0.0), saved.get("steps", 0))
    saved_at = time.monotonic()

    def evaluate_mean() -> dict[str, float]:
        mean = search.recent_mean(config.averaged_generations)
        with clock.paused():
            scores = real_score(mean)
        if not config.select_best or scores.mean > best.score:
            best.mean, best.score, best.generation = mean, scores.mean, search.generation
        return {"real_score": scores.mean, "eval_env_steps": scores.env_steps}

    def whole() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        state = search.state_dict()
        arrays = {
            name: torch.from_numpy(value)
            for name, value in state.items()
            if isinstance(value, np.ndarray)
        }
        arrays["best"] = torch.from_numpy(best.mean)
        figures = {"history": list(history), "seconds": clock.seconds, "steps": clock.steps}
        figures |= {"selected_score": best.score, "selected_generation": best.generation}
        return arrays, {"settings": state["settings"], **figures}

    # Ctrl-C may come in an evaluation, when the search has gone further than its history.
    ended = whole()

    with search_log(work, report, "generation", generations, search.generation) as log:

        def on_generation(stats: GenerationStats) -> bool:
            nonlocal ended, saved_at
            clock.steps = first_steps + fitness.steps
            figures = {
                **{name: getattr(stats, name) for name in ("best", "mean", "std", "sigma")},
                "seconds": round(clock.seconds, 2),
                "steps": clock.steps,
                "steps_per_second": round(clock.steps_per_second, 1),
            }
            over = config.max_minutes is not None and clock.seconds > 60 * config.max_minutes
            last = over or search.generation == generations
            if last or search.generation % config.validate_every == 0:
                figures |= evaluate_mean()
            history.append({"generation": search.generation, **figures})
            ended = whole()
            log.progress(search.generation, figures)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save_checkpoint(work.partial / SEARCH, *ended)
                log.draw(history)
                saved_at = time.monotonic()
            return over

        first_steps = clock.steps
        if config.select_best and evaluate_start and not history:
            history.append({"generation": 0, "seconds": 0.0, "steps": 0, **evaluate_mean()})
            ended = whole()
        try:
            evolve(search, fitness, generations, on_generation)
        except KeyboardInterrupt:
            # Of all generations that ended; the one under way starts again.
            save_checkpoint(work.partial / SEARCH, *ended)
            raise
        log.draw(history)
    last = history[-1]
    return best.mean, {
        "generations": search.generation,
        "selected_generation": best.generation,
        "fitness": last["mean"],
        "best_fitness": last["best"],
        "sigma": last["sigma"],
        "eval_score": best.score,
        "env_steps": {"monitored": sum(int(entry.get("eval_env_steps", 0)) for entry in history)},
        "history": history,
    }


@dataclass
class _Best:
    """The mean (D,) that the search would leave now."""

    mean: np.ndarray
    score: float = -math.inf
    generation: int = 0


def _new_or_resumed(
    work: StageFolder, config: CMAESConfig, seed: int, start: np.ndarray
) -> tuple[CMAES, _Best, dict[str, Any]]:
    """The search, the mean it would leave, and what else was saved."""
    saved = work.partial / SEARCH
    if saved.exists():
        hint = f"delete {work.partial} to start again"
        state = load_checkpoint(saved, hint=hint)
        arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
        figures = state.metadata
        with reading(saved, hint):
            best = _Best(arrays["best"], figures["selected_score"], figures["selected_generation"])
            return CMAES.from_state_dict({**arrays, **figures}), best, figures
    search = CMAES(
        len(start),
        sigma0=config.sigma0,
        population=config.population,
        diagonal=config.diagonal,
        seed=seed,
        mean=start,
    )
    return search, _Best(search.mean), {}
