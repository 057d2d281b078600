"""Compare M with two baselines, and compare M's dreams with real episodes."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from worldmodels.data.batches import AgentSteps
from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.dream.load import load_world_model
from worldmodels.dream.model import DreamModel, check_temperature
from worldmodels.dream.open_loop import OpenLoop, open_loop
from worldmodels.dream.pictures import most_active_episode, save_dreams
from worldmodels.errors import UserError, check_at_least
from worldmodels.memory import Memory
from worldmodels.memory.encoding import encode_episodes, encode_split
from worldmodels.memory.metrics import held_out_metrics, score_memory
from worldmodels.memory.training import MemoryStageConfig, SequenceBatches, new_memory
from worldmodels.plotting import save_curves
from worldmodels.progress import Report
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.training.fit import fit
from worldmodels.vision import Vision

MAX_EPISODES = 64
DEFAULT_STEPS = 100
SHOWN_STEPS = (0, 4, 12, 24, 36, 48, 72, 100)  # env steps since the pictured dreams began
PICTURED_DREAMS = 3


@dataclass(frozen=True)
class EvaluateMemoryConfig:
    """Settings of the evaluation of M.

    Attributes:
        steps: length of the dreams in env steps. None stands for 100 env steps, or for three
            quarters of the longest held-out episode if this length is below 100.
        starts: number of real held-out states at which the dreams begin.
        samples: number of dreams per start state. The mean frame of these dreams is compared with
            the real frame.
        temperature: temperature of the dreams.
    """

    steps: int | None = None
    starts: int = 64
    samples: int = 16
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_at_least(1, self, "steps", "starts", "samples")
        check_temperature(self.temperature)

    def for_episodes(self, longest: int) -> "EvaluateMemoryConfig":
        """Return the config with a number of steps that fits the longest episode.

        Args:
            longest: length of the longest episode in env steps.

        Raises: UserError if the config has a number of steps that does not fit.
        """
        if self.steps is None:
            return replace(self, steps=max(1, min(DEFAULT_STEPS, longest * 3 // 4)))
        if longest <= self.steps:
            raise UserError(
                f"the longest held-out episode has about {longest} env steps, expected more than "
                f"{self.steps}: shorten the dreams with --horizon"
            )
        return self


@locks_run
def evaluate_memory(
    run: Run, config: EvaluateMemoryConfig, *, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """Evaluate the run's M on held-out episodes; write the metrics of M as JSON, and two pictures.

    The baseline of `train_memoryless` is trained anew in every call, with the settings of M's
    training in the first round.

    Raises: UserError if V, M or episodes are missing, or if all held-out episodes are shorter than
        the dreams.
    """
    vision, memory = load_world_model(run, device)
    run.store.require(run.folder)
    repeat = run.action_repeat
    held_out, frames = _encoded_held_out(run, vision, report)
    longest = repeat * int(held_out.mask.sum(1).max())
    config = config.for_episodes(longest)
    train = encode_split(run, vision, False, report)
    seed = run.settings.seed
    memoryless = train_memoryless(
        _settings(run), vision, train, held_out, device=device, seed=seed, report=report
    )
    dream = DreamModel(vision, memory, config.temperature)
    result, curves = memory_figures(dream, memoryless, train, held_out, frames, config, repeat)
    result["digests"] = {name: file_digest(run.weights(name)) for name in ("vision", "memory")}
    run.write_json("evaluation/memory.json", result)
    folder = run.folder / "evaluation"
    draw_open_loop(folder / "memory.png", {"": curves}, repeat)
    row = most_active_episode(held_out)
    draw_dreams(folder / "dreams.png", DreamModel(vision, memory), held_out, frames, row, repeat)
    report.log(
        f"memory: held-out {result['nll']:.2f} nats per agent step (without recurrence "
        f"{result['memoryless_nll']:.2f}, persistence {result['persistence_nll']:.2f}); the "
        f"error of dreams is below the error of the last frame for "
        f"{result['open_loop']['steps_below_persistence']} of {config.steps} env steps"
    )
    return result


def _settings(run: Run) -> MemoryStageConfig:
    """Return the settings with which the run's M was trained."""
    manifest = run.manifest("memory") or {}
    try:
        return MemoryStageConfig.from_dict(manifest["config"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{run.weights('memory').parent} lacks the settings of M's training ({error!r}): "
            f'run "wm train-memory --run {run}" again'
        ) from error


def train_memoryless(
    config: MemoryStageConfig,
    vision: Vision,
    train: Sequences,
    held_out: Sequences,
    *,
    device: str = "cpu",
    seed: int,
    report: Report,
) -> Memory:
    """Train a network like M on M's training data, with every agent step as a separate sequence.

    The input of this network is the current frame and the action, without any earlier step. If M
    predicts better than this network, the reason is M's recurrent state.
    """
    torch.manual_seed(seed + 1)
    memory = new_memory(config, vision, train.num_actions)
    memory.calibrate(train)
    memory.to(device)
    length = min(config.sequence_length, int(train.lengths.max()))
    batches = SequenceBatches(train.single_steps(), config.fit.batch_size * length, 1)
    alone = held_out.single_steps()
    with (
        tempfile.TemporaryDirectory() as folder,
        report.progress("without recurrence", total=config.fit.num_steps) as meter,
    ):
        fit(
            memory,
            batches,
            lambda: held_out_metrics(memory, alone),
            config.fit,
            seed=seed,
            folder=Path(folder),
            on_step=lambda step, metrics: meter.to(step),
        )
    return memory.eval()


def memory_figures(
    dream: DreamModel,
    memoryless: Memory,
    train: Sequences,
    held_out: SequenceBatch,
    frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]],
    config: EvaluateMemoryConfig,
    action_repeat: int,
) -> tuple[dict[str, Any], OpenLoop]:
    """Return metrics of M and of two baselines on held-out episodes, and M's open-loop errors.

    Args:
        dream: the dream model of M. The dreams have the temperature of `dream`, and the temperature
            of `config` is not used.
        memoryless: the baseline of `train_memoryless`.
        frames: for each held-out episode, the frame before every agent step and the last frame.
    """
    assert config.steps is not None, "for_episodes has set it"
    alone = held_out_metrics(memoryless, held_out.single_steps())
    horizon = max(1, config.steps // action_repeat)
    sizes = {"horizon": horizon, "num_starts": config.starts, "num_samples": config.samples}
    curves = open_loop(dream, held_out, frames, **sizes)
    return {
        **score_memory(dream.vision, dream.memory, train, held_out),
        "memoryless_nll": alone["nll"],
        "memoryless_reward_nll": alone["reward_nll"],
        "open_loop": {
            "action_repeat": action_repeat,
            **asdict(config),
            "temperature": dream.temperature,
            "steps_below_persistence": action_repeat * curves.steps_below_persistence,
            **asdict(curves),
        },
    }, curves


def draw_open_loop(path: Path, curves: dict[str, OpenLoop], action_repeat: int) -> None:
    """Plot the open-loop errors of one or more Ms over env steps.

    `curves` maps the name of each M to the errors of this M. The name of a single M may be empty.
    """
    kinds = {"predicted": "dream", "persistence": "last frame", "reconstruction": "V's own error"}
    lines = {}
    for name, curve in curves.items():
        for field, kind in kinds.items():
            errors = enumerate(getattr(curve, field), start=1)
            lines[f"{name}: {kind}" if name else kind] = [(action_repeat * n, e) for n, e in errors]
    y_label = "squared error per frame, under the real actions"
    save_curves(path, lines, x_label="env steps since the dream began", y_label=y_label)


def draw_dreams(
    path: Path,
    dream: DreamModel,
    episodes: SequenceBatch,
    frames: Sequence[UInt8[np.ndarray, "_ 64 64 3"]],
    row: int,
    action_repeat: int,
) -> None:
    """Draw a few dreams of the middle part of one episode, next to the episode's real frames."""
    episode = episodes[row : row + 1]
    agent_steps = tuple(dict.fromkeys(step // action_repeat for step in SHOWN_STEPS))
    save_dreams(
        path,
        dream,
        episode,
        frames[row],
        start=max(0, int(episode.mask.sum()) - agent_steps[-1]) // 2,
        agent_steps=agent_steps,
        num_dreams=PICTURED_DREAMS,
    )


def _encoded_held_out(
    run: Run, vision: Vision, report: Report
) -> tuple[SequenceBatch, list[np.ndarray]]:
    """Return V's encoding of the first held-out episodes, and the frames of these episodes."""
    episodes = run.store.split(held_out=True)[:MAX_EPISODES]
    encoded = encode_episodes(vision, episodes, run.action_repeat, report)
    loaded = (episode.load() for episode in episodes)
    return encoded, [AgentSteps.from_rollout(r, run.action_repeat).frames for r in loaded]
