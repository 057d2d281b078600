"""Search C with CMA-ES, in the dream or in the real game."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from agents.controller import ControllerConfig
from agents.evolution import CMAES, GenerationStats, evolve
from agents.workers import Workers
from envs.tasks import task_for
from worldmodels.agent import Agent, Body, save_agent
from worldmodels.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.errors import UserError
from worldmodels.pictures import save_curves
from worldmodels.report import Report, tensorboard
from worldmodels.run import Run, StageFolder
from worldmodels.stages.fitness import ControllerStageConfig, DreamFitness, RealFitness
from worldmodels.world_model import load_world_model

CHECKPOINT_SECONDS = 20.0

Fitness = Callable[[np.ndarray, int], np.ndarray]


def train_controller(
    run: Run,
    config: ControllerStageConfig,
    *,
    workers: Workers,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
) -> dict[str, Any]:
    """Search C and write the whole agent, its figures and its curve to the run's folder.

    What is saved is the mean of the search distribution, never the best sample seen.
    """
    settings = run.settings
    run.store.refresh()
    vision, memory = load_world_model(run)
    work = run.begin("controller", config, settings.seed, round_)
    if work is None:
        report.line(f"controller: done, {run.folder / 'controller'}")
        return run.result("controller") or {}
    task = task_for(settings.env_id)
    action_map = task.action_maps[config.action_map or task.default_action_map]
    features = vision.num_features + (memory.config.num_hidden if config.inputs == "zh" else 0)
    controller = ControllerConfig(features, action_map.num_outputs, config.hidden)
    body = Body(
        settings.env_id,
        task.view,
        action_map,
        run.action_repeat,
        config.inputs,
        config.sample_latent,
    )
    start = _earlier_parameters(run, controller, round_)
    agent = Agent(vision, memory, controller, torch.from_numpy(start).float()[None], body)
    generations = config.later_generations if round_ > 1 else config.generations
    where = "the dream" if config.dream else settings.env_id
    report.plan(
        f"controller: {controller.num_parameters} parameters, {generations} generations of "
        f"{config.population} candidates x {config.episodes} episodes in {where}",
        disk_bytes=20e6,
        folder=run.folder,
    )
    seed = settings.seed + 1_000 * round_ + 2
    fitness: Fitness
    if config.dream:
        fitness = DreamFitness(run, config, agent, device, seed, report)
    else:
        body_file = work.partial / "body.safetensors"
        fitness = RealFitness(config, agent, workers, seed, body_file)
    search = _new_or_resumed(work, controller, config, seed, start)
    started = time.monotonic()
    history = _search(search, fitness, generations, work, report)
    agent.parameters = torch.from_numpy(search.mean).float()[None]
    return _finish(agent, history, controller, config, work, report, time.monotonic() - started)


def _earlier_parameters(run: Run, controller: ControllerConfig, round_: int) -> np.ndarray:
    """Where the search starts: zeros, or the C of the round before."""
    manifest = run.manifest("controller")
    if manifest is not None and manifest["round"] < round_:
        earlier = load_checkpoint(run.weights("controller"), remedy="delete it to start from zeros")
        if earlier.metadata["controller"] == asdict(controller):
            return earlier.tensors["controller.parameters"][0].double().numpy()
    return np.zeros(controller.num_parameters)


def _new_or_resumed(
    work: StageFolder,
    controller: ControllerConfig,
    config: ControllerStageConfig,
    seed: int,
    start: np.ndarray,
) -> CMAES:
    saved = work.partial / "search.safetensors"
    if saved.exists():
        state = load_checkpoint(saved, remedy=f"delete {work.partial} to start again")
        arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
        try:
            return CMAES.from_state_dict({**arrays, **state.metadata})
        except ValueError as error:
            raise UserError(f"{saved}: {error}; or delete {work.partial}") from error
    return CMAES(
        controller.num_parameters,
        sigma0=config.sigma0,
        population=config.population,
        diagonal=config.diagonal,
        seed=seed,
        mean=start,
    )


def _search(
    search: CMAES, fitness: Fitness, generations: int, work: StageFolder, report: Report
) -> list[dict[str, float]]:
    """Run CMA-ES to its last generation; checkpoints, curve and Ctrl-C included."""
    path = work.partial / "search.safetensors"
    history: list[dict[str, float]] = []
    if path.exists():
        history = load_checkpoint(path, remedy="").metadata["history"]
    saved_at = time.monotonic()

    def save() -> None:
        state = search.state_dict()
        arrays = {
            name: torch.from_numpy(value)
            for name, value in state.items()
            if isinstance(value, np.ndarray)
        }
        save_checkpoint(path, arrays, {"settings": state["settings"], "history": history})

    with (
        tensorboard(work.partial / "events") as events,
        report.progress("controller", total=generations, done=search.generation) as meter,
    ):

        def on_generation(stats: GenerationStats) -> None:
            nonlocal saved_at
            facts = {"best": stats.best, "mean": stats.mean, "std": stats.std}
            history.append({"generation": stats.generation, **facts, "sigma": stats.sigma})
            meter.to(search.generation)
            meter.show({**facts, "sigma": stats.sigma})
            for name, value in {**facts, "sigma": stats.sigma}.items():
                events.add_scalar(f"controller/{name}", value, stats.generation)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                save()
                saved_at = time.monotonic()

        try:
            evolve(search, fitness, generations, on_generation)
        except KeyboardInterrupt:
            save()  # of all generations that ended; the one under way starts again
            raise
    return history


def _finish(
    agent: Agent,
    history: list[dict[str, float]],
    controller: ControllerConfig,
    config: ControllerStageConfig,
    work: StageFolder,
    report: Report,
    seconds: float,
) -> dict[str, Any]:
    agent.vision.cpu()
    agent.memory.cpu()
    save_agent(work.partial / "agent.safetensors", agent, {"made_by": work.work})
    (work.partial / "body.safetensors").unlink(missing_ok=True)
    where = "dreamed" if config.dream else "real"
    save_curves(
        work.partial / "controller.png",
        {name: [(h["generation"], h[name]) for h in history] for name in ("best", "mean")},
        bands={
            "one std": [
                (h["generation"], h["mean"] - h["std"], h["mean"] + h["std"]) for h in history
            ]
        },
        x_label="generation",
        y_label=f"{where} return of {config.max_decisions} decisions",
    )
    last = history[-1]
    result = {
        "dream": config.dream,
        "parameters": controller.num_parameters,
        "generations": len(history),
        "fitness": last["mean"],
        "best_fitness": last["best"],
        "sigma": last["sigma"],
        "history": history,
    }
    report.line(
        f"controller: {where} return {history[0]['mean']:.1f} -> {last['mean']:.1f} "
        f"in {len(history)} generations"
    )
    return work.commit(result, seconds)
