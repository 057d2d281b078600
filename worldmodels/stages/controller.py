"""Search C with CMA-ES, in the dream or in the real game."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.collecting import PlayChunk
from agents.controller import ControllerConfig, apply_action_map, control
from agents.evolution import CMAES, GenerationStats, evolve
from agents.seeds import SEED_RANGES
from agents.workers import CHUNK, Workers, chunks
from envs.tasks import task_for
from worldmodels.agent import Agent, AgentFactory, Body, load_agent, save_agent
from worldmodels.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.dream import DreamModel, dreamed_returns, near_reward, real_moments
from worldmodels.encoding import encode_episodes
from worldmodels.errors import UserError
from worldmodels.memory import Memory, restore_memory
from worldmodels.pictures import save_curves
from worldmodels.report import Report, tensorboard
from worldmodels.run import Run, StageFolder
from worldmodels.training import step_generator
from worldmodels.vision import Vision, restore_vision

CHECKPOINT_SECONDS = 20.0
MAX_EPISODES_FOR_STARTS = 256
NEAR_DECISIONS = 15

Fitness = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class ControllerStageConfig:
    """How C is searched; the defaults are the paper's (arXiv 1803.10122, A.4).

    Attributes:
        dream: search in M's dream instead of the real game.
        generations, later_generations: in the first round, and in rounds after it, which start
            from the C there is.
        population, sigma0, diagonal: CMA-ES; `diagonal` adapts one variance a parameter.
        episodes: real episodes, or dreams, a candidate; the same tracks or moments for all
            candidates of a generation, other ones in every generation.
        max_decisions: length of a dream, and of a real episode if below the env's own limit.
        temperature: of the dream.
        far_starts: weight of dreams that begin far from any reward, against 1 for the others.
        inputs, hidden: C sees "zh" or "z"; hidden tanh units, 0 for the paper's linear C.
        action_map: one of the task's; None takes its default.
        sample_latent: C sees a draw from V's posterior, as in the paper, instead of its mean.
    """

    dream: bool = False
    generations: int = 1_800
    later_generations: int = 200
    population: int = 64
    sigma0: float = 0.1
    diagonal: bool = False
    episodes: int = 16
    max_decisions: int = 1_000
    temperature: float = 1.0
    far_starts: float = 1.0
    inputs: str = "zh"
    hidden: int = 0
    action_map: str | None = None
    sample_latent: bool = False

    def __post_init__(self) -> None:
        for name in ("generations", "later_generations", "episodes", "max_decisions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.population < 4:
            raise UserError(f"population must be at least 4, got {self.population}")
        if self.inputs not in ("zh", "z"):
            raise UserError(f'inputs must be "zh" or "z", got "{self.inputs}"')


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
    vision, memory = _load_models(run)
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
    fitness: Fitness
    if config.dream:
        fitness = DreamFitness(run, config, agent, device, report)
    else:
        fitness = RealFitness(run, config, agent, workers, work.partial / "body.safetensors")
    seed = settings.seed + 1_000 * round_ + 2
    search = _new_or_resumed(work, controller, config, seed, start)
    started = time.monotonic()
    history = _search(search, fitness, generations, work, report)
    agent.parameters = torch.from_numpy(search.mean).float()[None]
    return _finish(agent, history, controller, config, work, report, time.monotonic() - started)


class DreamFitness:
    """Mean dreamed return of each candidate, all of them as one batch on the device."""

    def __init__(
        self,
        run: Run,
        config: ControllerStageConfig,
        agent: Agent,
        device: str,
        report: Report,
    ) -> None:
        self.config = config
        self.controller, self.body = agent.controller, agent.body
        self.device = device
        self.seed = run.settings.seed
        episodes = run.store.split(held_out=False)
        newest_first = sorted(episodes, key=lambda episode: -episode.index)
        chosen = newest_first[:MAX_EPISODES_FOR_STARTS]
        with report.progress("encode starts", total=len(chosen)) as meter:
            sequences = encode_episodes(agent.vision, chosen, run.action_repeat, meter.advance)
        moments = real_moments(agent.vision, agent.memory, sequences)
        self.moments = moments.to(device)
        near = near_reward(sequences, NEAR_DECISIONS)
        # Where no reward stands out (all alike, or none at all), all moments count the same.
        weights = torch.where(near, 1.0, config.far_starts).double() + 1e-6
        self.cumulative = weights.cumsum(0).float().to(device)
        self.dream = DreamModel(
            agent.vision.to(device), agent.memory.to(device), config.temperature
        )
        self.dream.keep_within(self.moments.latent)

    @torch.no_grad()
    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, from moments drawn anew each generation."""
        generator = step_generator(self.seed, generation, self.device)
        uniform = torch.rand(self.config.episodes, generator=generator, device=self.device)
        picks = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1])
        population = len(candidates)
        parameters = torch.from_numpy(candidates).float().to(self.device)
        seen = self.controller.num_features

        def act(features: torch.Tensor) -> torch.Tensor:
            mine = features[:, :seen].view(population, -1, seen)
            outputs = control(self.controller, parameters, mine)
            return apply_action_map(self.body.action_map, outputs).flatten(0, 1)

        starts = self.moments.rows(picks.repeat(population))
        returns = dreamed_returns(self.dream, starts, act, self.config.max_decisions, generator)
        return returns.view(population, -1).mean(1).double().cpu().numpy()


class RealFitness:
    """Mean real return of each candidate over the same tracks, played by the workers."""

    def __init__(
        self,
        run: Run,
        config: ControllerStageConfig,
        agent: Agent,
        workers: Workers,
        body_file: Path,
    ) -> None:
        self.config = config
        self.env_id = run.settings.env_id
        self.seed = run.settings.seed
        self.workers = workers
        self.max_steps = config.max_decisions * agent.body.action_repeat
        self.body_file = body_file
        save_agent(body_file, agent, {})

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, on tracks drawn anew each generation."""
        tracks = np.random.default_rng([self.seed, generation]).integers(
            SEED_RANGES["training"].stop, size=self.config.episodes
        )
        jobs = [(row, int(track)) for row in range(len(candidates)) for track in tracks]
        plays = [
            (
                PlayChunk(
                    self.env_id,
                    AgentFactory(self.body_file, _padded(candidates[[row for row, _ in part]])),
                    self.max_steps,
                    keep_frames=False,
                ),
                [track for _, track in part],
            )
            for part in chunks(jobs)
        ]
        scores = self.workers.map(_play, plays)
        returns = [score.episode_return for part in scores for score in part]
        return np.array(returns).reshape(len(candidates), -1).mean(1)


def _play(job: tuple[PlayChunk, list[int]]) -> list[Any]:
    play_chunk, tracks = job
    return play_chunk(tracks)


def _padded(parameters: np.ndarray) -> np.ndarray:
    """A full chunk of controllers; batched networks must always see one batch size."""
    return np.resize(parameters, (CHUNK, parameters.shape[1]))


def _load_models(run: Run) -> tuple[Vision, Memory]:
    vision_path, memory_path = run.weights("vision"), run.weights("memory")
    vision_file = load_checkpoint(vision_path, remedy=f'run "wm train-vision --run {run}" first')
    memory_file = load_checkpoint(memory_path, remedy=f'run "wm train-memory --run {run}" first')
    if "vision" in run.stale("memory"):
        raise UserError(
            f"{memory_path} was trained on another V than {vision_path}: "
            f'run "wm train-memory --run {run}" again'
        )
    return restore_vision(vision_file, vision_path), restore_memory(memory_file, memory_path)


def _earlier_parameters(run: Run, controller: ControllerConfig, round_: int) -> np.ndarray:
    """Where the search starts: zeros, or the C of the round before."""
    manifest = run.manifest("controller")
    if manifest is not None and manifest["round"] < round_:
        earlier = load_agent(run.weights("controller"))
        if earlier.controller == controller:
            return earlier.parameters[0].double().numpy()
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
        return CMAES.from_state_dict({**arrays, **state.metadata})
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
    for name in ("body.safetensors", "search.safetensors"):
        (work.partial / name).unlink(missing_ok=True)
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
