"""Train M on the stored episodes as V sees them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldmodels.checkpoint import load_checkpoint, load_weights, save_checkpoint, with_prefix
from worldmodels.data.batches import SequenceBatch
from worldmodels.dream import DreamModel, DreamState
from worldmodels.encoding import encode_episodes
from worldmodels.memory import (
    MDNRNN,
    CodeRNN,
    CodeRNNConfig,
    MDNRNNConfig,
    Memory,
    memory_metadata,
)
from worldmodels.memory.baselines import StayCategorical, StayGaussian
from worldmodels.pictures import save_grid
from worldmodels.report import Report
from worldmodels.run import Run, StageFolder
from worldmodels.stages.fitting import TrainingStageConfig, fit_stage
from worldmodels.training import Metrics, mean_metrics, step_generator
from worldmodels.vision import VQVAE, Vision, restore_vision

HORIZONS = (0, 1, 2, 4, 8, 12, 16)


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """How M is trained; what kind it is follows from V.

    Attributes:
        num_hidden, num_mixtures, predict_change: see MDNRNNConfig and CodeRNNConfig.
        sequence_length: decisions a training sequence, from a random place of its episode;
            longer than the episodes means whole episodes.
    """

    num_hidden: int = 256
    num_mixtures: int = 5
    predict_change: bool = False
    sequence_length: int = 999
    reward_weight: float = 1.0


def train_memory(
    run: Run,
    config: MemoryStageConfig,
    *,
    report: Report,
    device: str = "cpu",
    round_: int = 1,
) -> dict[str, Any]:
    """Train M and write it, its figures and its picture to the run's folder."""
    settings = run.settings
    run.store.refresh()
    run.store.require(run.folder)
    vision_path = run.weights("vision")
    checkpoint = load_checkpoint(vision_path, remedy=f'run "wm train-vision --run {run}" first')
    work = run.begin("memory", config, settings.seed, round_)
    if work is None:
        report.line(f"memory: done, {run.folder / 'memory'}")
        return run.result("memory") or {}
    vision = restore_vision(checkpoint, vision_path, device)
    train, held_out = (_encode(run, vision, part, report).to(device) for part in (False, True))
    memory = _new_or_earlier(run, config, vision, train, round_).to(device)
    fit = config.in_round(round_)
    decisions = int(train.mask.sum())
    report.plan(
        f"memory: {decisions:,} decisions, {fit.num_steps:,} batches of {fit.batch_size} "
        f"sequences, {sum(p.numel() for p in memory.parameters()):,} parameters, on {device}",
        disk_bytes=5 * sum(p.numel() * 4 for p in memory.parameters()),
        folder=run.folder,
    )
    sequences = SequenceBatches(train, fit.batch_size, config.sequence_length)
    result = fit_stage(
        memory,
        sequences,
        lambda: held_out_metrics(memory, held_out),
        fit,
        work=work,
        seed=settings.seed + 1_000 * round_ + 1,
        report=report,
        shown=("loss", "nll", "val/nll"),
        on_done=lambda: {
            **score_memory(vision, memory, train, held_out),
            "decisions": decisions,
        },
        write=lambda: _write(vision, memory, held_out, run, work),
    )
    report.line(
        f"memory: held-out {result['nll']:.2f} nats a decision "
        f"(stay {result['stay_nll']:.2f}), reward R2 {result['reward_r2']:.2f}"
    )
    return result


class SequenceBatches:
    """Random windows of random episodes; an episode shorter than the window fills it in part."""

    def __init__(self, episodes: SequenceBatch, batch_size: int, length: int) -> None:
        self.episodes = episodes
        self.batch_size = batch_size
        self.longest = episodes.mask.shape[1]
        self.length = min(length, self.longest)
        self.lengths = episodes.mask.sum(1).cpu()

    def __call__(self, step: int, generator: torch.Generator) -> SequenceBatch:
        """The batch of step `step`; depends on nothing but the generator."""
        rows = torch.randint(len(self.episodes), (self.batch_size,), generator=generator)
        room = (self.lengths[rows] - self.length).clamp(min=0)
        starts = (torch.rand(self.batch_size, generator=generator) * (room + 1)).long()
        device = self.episodes.mask.device
        return self.episodes[rows.to(device)].window(starts.to(device), self.length)


@torch.no_grad()
def held_out_metrics(memory: Memory, episodes: SequenceBatch) -> Metrics:
    """M's loss over whole held-out episodes, each decision counting alike."""
    memory.eval()
    generator = step_generator(0, 0, episodes.mask.device)
    parts, weights = [], []
    for start in range(0, len(episodes), 16):
        part = episodes[slice(start, start + 16)]
        loss, metrics = memory.loss(part, generator)
        parts.append({"loss": float(loss), **{k: float(v) for k, v in metrics.items()}})
        weights.append(float(part.mask.sum()))
    total = sum(weights)
    return mean_metrics(
        [
            {name: value * weight * len(parts) / total for name, value in part.items()}
            for part, weight in zip(parts, weights, strict=True)
        ]
    )


@torch.no_grad()
def score_memory(
    vision: Vision, memory: Memory, train: SequenceBatch, held_out: SequenceBatch
) -> dict[str, Any]:
    """Held-out nats a decision beside the fitted "the next latent is this one", and reward R2."""
    metrics = held_out_metrics(memory, held_out)
    now, then = _pairs(vision, train)
    held_now, held_then = _pairs(vision, held_out)
    baseline: StayGaussian | StayCategorical
    if isinstance(vision, VQVAE):
        baseline = StayCategorical.fit(now, then, vision.config.num_values)
    else:
        baseline = StayGaussian.fit(now, then)
    rewards = held_out.rewards[held_out.mask]
    reward_mse = metrics["reward_error"] * float(memory.outcome.reward_scale) ** 2
    variance = float(rewards.var(correction=0))
    return {
        "nll": metrics["nll"],
        "stay_nll": baseline.nll(held_now, held_then),
        "reward_r2": 1.0 - reward_mse / max(variance, 1e-9),
        "held_out_decisions": int(held_out.mask.sum()),
    }


def _pairs(vision: Vision, episodes: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Latents before and after each real decision, drawn from V's posterior, on the CPU."""
    generator = step_generator(0, 0)
    latents = vision.sample(episodes.posteriors.cpu(), generator)
    mask = episodes.mask.cpu()
    return latents[:, :-1][mask], latents[:, 1:][mask]


@torch.no_grad()
def open_loop(
    vision: Vision, memory: Memory, episode: SequenceBatch, start: int, num_decisions: int
) -> Tensor:
    """Frames M dreams under an episode's real actions, uint8 (num_decisions + 1, 64, 64, 3).

    One sample of the many futures it holds possible; the likeliest codes would mostly stand still.

    Args:
        episode: a batch of one; M sees its real frames up to decision `start`.
    """
    latents = vision.mode(episode.posteriors)
    state = memory.initial(1)
    for step in range(start):
        state = memory.advance(state, latents[:, step], episode.actions[:, step])
    dream, generator = DreamModel(vision, memory), step_generator(0, start, latents.device)
    now = DreamState(latents[:, start], state, torch.ones(1, device=latents.device))
    frames = [vision.decode(now.latent)]
    for step in range(start, start + num_decisions):
        now, _ = dream.step(now, episode.actions[:, step], generator)
        frames.append(vision.decode(now.latent))
    return torch.cat(frames).cpu()


def _encode(run: Run, vision: Vision, held_out: bool, report: Report) -> SequenceBatch:
    episodes = run.store.split(held_out)
    name = "held-out" if held_out else "training"
    with report.progress(f"encode {name}", total=len(episodes)) as meter:
        return encode_episodes(vision, episodes, run.action_repeat, meter.advance)


def _new_or_earlier(
    run: Run, config: MemoryStageConfig, vision: Vision, train: SequenceBatch, round_: int
) -> Memory:
    """A fresh M that begins near the baseline; in later rounds, the M of the round before."""
    torch.manual_seed(run.settings.seed + 1)
    actions = train.actions.shape[-1]
    memory: Memory
    if isinstance(vision, VQVAE):
        memory = CodeRNN(
            CodeRNNConfig(
                num_codes=vision.config.num_codes,
                digit_sizes=vision.config.digit_sizes,
                vector_size=vision.config.vector_size,
                num_actions=actions,
                num_hidden=config.num_hidden,
                num_mixtures=config.num_mixtures,
                reward_weight=config.reward_weight,
            ),
            vision.code_vectors.cpu(),
        )
    else:
        memory = MDNRNN(
            MDNRNNConfig(
                num_latents=vision.config.num_latents,
                num_actions=actions,
                num_hidden=config.num_hidden,
                num_mixtures=config.num_mixtures,
                predict_change=config.predict_change,
                reward_weight=config.reward_weight,
            )
        )
    memory.calibrate(train.to("cpu"))
    manifest = run.manifest("memory")
    if manifest is not None and manifest["round"] < round_:
        path = run.weights("memory")
        checkpoint = load_checkpoint(path, remedy=f'run "wm train-memory --run {run}" again')
        weights = checkpoint.part("memory")
        if isinstance(memory, CodeRNN):
            # V may have moved its codebook since: M keeps what it learned, with the new vectors.
            weights["code_vectors"] = memory.code_vectors
        load_weights(memory, weights, path)
        memory.outcome.calibrate(train.rewards[train.mask].cpu())
    return memory


@torch.no_grad()
def _write(
    vision: Vision, memory: Memory, held_out: SequenceBatch, run: Run, work: StageFolder
) -> None:
    facts = {
        "memory": memory_metadata(memory),
        "vision_digest": work.work["inputs"]["vision"],
        "seed": work.work["seed"],
    }
    path = work.partial / "memory.safetensors"
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), facts)
    # The held-out episode that moves most: a standing car is no test of a dream.
    moves = (held_out.actions[:, 1:] - held_out.actions[:, :-1]).abs().sum((1, 2))
    row = int((held_out.rewards.sum(1) + 1e-3 * moves).argmax())
    episode = held_out[slice(row, row + 1)]
    length = int(episode.mask.sum())
    horizon = min(HORIZONS[-1], length - 1)
    start = (length - horizon) // 2
    steps = [step for step in HORIZONS if step <= horizon]
    posteriors = episode.posteriors[0, [start + step for step in steps]]
    seen = vision.decode(vision.mode(posteriors))
    stored = run.store.split(held_out=True)[row].load().frames
    repeat = run.action_repeat
    real = stored[[min((start + step) * repeat, len(stored) - 1) for step in steps]]
    dreamed = open_loop(vision, memory, episode, start, horizon)[steps]
    save_grid(
        work.partial / "memory.png",
        {"real": real, "V sees": seen.cpu().numpy(), "M dreams": dreamed.numpy()},
        [f"decision {step}" for step in steps],
    )
