"""Train M on the stored episodes as V sees them."""

from dataclasses import dataclass
from typing import Any

import torch

from worldmodels.data.batches import Decisions
from worldmodels.data.sequences import SequenceBatch, Sequences
from worldmodels.dream.pictures import liveliest, save_dreams
from worldmodels.errors import UserError
from worldmodels.memory import (
    CodeRNNConfig,
    MDNRNNConfig,
    Memory,
    make_memory,
    memory_metadata,
)
from worldmodels.memory.encoded_episodes import EncodedEpisodes
from worldmodels.memory.encoding import (
    MAX_BYTES_IN_MEMORY,
    Encodings,
    encode_dataset,
    encoded_bytes,
    posterior_width,
)
from worldmodels.memory.metrics import held_out_metrics, score_memory
from worldmodels.memory.part_size import part_bytes, split_batch
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.runs.checkpoint import load_checkpoint, load_weights, save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig
from worldmodels.training.stage import TrainingStageConfig, fit_stage
from worldmodels.vision import VQVAE, Vision, restore_vision

# Per number of V's posterior in a batch: as a record, and as a tensor.
BATCH_BYTES = 8
SHOWN = (0, 1, 2, 4, 8, 12, 16)  # decisions since the pictured dream began


@dataclass(frozen=True, kw_only=True)
class MemoryStageConfig(TrainingStageConfig):
    """How M is trained; what kind it is follows from V.

    Attributes:
        num_hidden, num_mixtures, predict_change, head_width, coupled: see MDNRNNConfig and
            CodeRNNConfig.
        members: M's that vote, see `MemoryEnsemble`.
        sequence_length: decisions a training sequence, from a random place of its episode;
            longer than the episodes means whole episodes.
        burn_in: the first decisions of a sequence that only run M's state up and are not
            learned from, where it begins in the middle of its episode.
    """

    num_hidden: int = 256
    num_mixtures: int = 5
    predict_change: bool = False
    head_width: int = 256
    coupled: bool = True
    members: int = 1
    sequence_length: int = 999
    burn_in: int = 0
    reward_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.members < 1:
            raise UserError(f"members must be at least 1, got {self.members}")
        if not 0 <= self.burn_in < self.sequence_length:
            raise UserError(
                f"burn_in must be in 0..{self.sequence_length - 1}, shorter than a sequence, "
                f"got {self.burn_in}"
            )


@locks_run
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
    work = run.begin("memory", config, settings.seed, round_, report.line)
    if work is None:
        report.line(f"memory: done, {run.folder / 'memory'}")
        return run.result("memory") or {}
    vision = restore_vision(checkpoint, vision_path, device)
    memory, is_new = _new_or_earlier(run, config, vision, round_, report)
    fit = config.in_round(1 if is_new else round_)
    _plan(run, config, fit, vision, memory, device, report)
    train, held_out = (_encode(run, vision, part, report) for part in (False, True))
    if is_new:
        memory.calibrate(train)
    memory.to(device)
    sequences = SequenceBatches(train, fit.batch_size, config.sequence_length, config.burn_in)
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
            "decisions": int(train.lengths.sum()),
            "members": config.members,
        },
        write=lambda: _write(vision, memory, held_out, run, work),
        split=lambda batch: split_batch(memory, batch),
    )
    report.line(
        f"memory: held-out {result['nll']:.2f} nats a decision "
        f"(stay {result['stay_nll']:.2f}), reward R2 {result['reward_r2']:.2f}"
    )
    return result


class SequenceBatches:
    """Random windows of random episodes; an episode shorter than the window fills it in part.

    Args:
        burn_in: decisions at a window's beginning whose mask is false, unless it begins where its
            episode does.
    """

    def __init__(self, episodes: Sequences, batch_size: int, length: int, burn_in: int = 0) -> None:
        self.episodes = episodes
        self.batch_size = batch_size
        self.burn_in = burn_in
        self.lengths = episodes.lengths
        self.length = min(length, int(self.lengths.max()))

    def __call__(self, step: int, generator: torch.Generator) -> SequenceBatch:
        """The batch of step `step`, on the CPU; depends on nothing but the generator."""
        rows = torch.randint(len(self.episodes), (self.batch_size,), generator=generator)
        room = (self.lengths[rows] - self.length).clamp(min=0)
        starts = (torch.rand(self.batch_size, generator=generator) * (room + 1)).long()
        window = self.episodes.windows(rows, starts, self.length)
        if self.burn_in:
            window.mask[starts > 0, : self.burn_in] = False
        return window


def _encode(run: Run, vision: Vision, held_out: bool, report: Report) -> EncodedEpisodes:
    episodes = run.store.split(held_out)
    name = "held-out" if held_out else "training"
    with report.progress(f"encode {name}", total=len(episodes)) as meter:
        return encode_dataset(
            vision,
            episodes,
            run.action_repeat,
            meter.advance,
            folder=run.folder,
            encodings=run.shared(Encodings),
        )


def _plan(
    run: Run,
    config: MemoryStageConfig,
    fit: FitConfig,
    vision: Vision,
    memory: Memory,
    device: str,
    report: Report,
) -> None:
    repeat, parameters = run.action_repeat, sum(p.numel() for p in memory.parameters())
    parts = [run.store.split(held_out) for held_out in (False, True)]
    sizes = [encoded_bytes(vision, part, repeat) for part in parts]
    longest = max(-(-episode.num_steps // repeat) for episode in parts[0])
    length = min(config.sequence_length, longest)
    steps = fit.batch_size * length
    decisions = sum(-(-episode.num_steps // repeat) for episode in parts[0])
    report.plan(
        f"memory: {decisions:,} decisions, {fit.num_steps:,} batches of {fit.batch_size} "
        f"sequences, {parameters:,} parameters, on {device}",
        disk_bytes=5 * 4 * parameters + sum(size for size in sizes if size > MAX_BYTES_IN_MEMORY),
        memory_bytes=PROCESS_BYTES
        + sum(size for size in sizes if size <= MAX_BYTES_IN_MEMORY)
        + steps * BATCH_BYTES * posterior_width(vision)
        + part_bytes(memory, steps, length),
        folder=run.folder,
    )


def _new_or_earlier(
    run: Run, config: MemoryStageConfig, vision: Vision, round_: int, report: Report
) -> tuple[Memory, bool]:
    """The M of the round before, or one with random weights; and whether it is new."""
    torch.manual_seed(run.settings.seed + 1)
    memory = new_memory(config, vision, run.store.episodes[0].action_size)
    manifest = run.manifest("memory")
    if manifest is None or manifest["round"] >= round_:
        return memory, True
    path = run.weights("memory")
    checkpoint = load_checkpoint(path, remedy=f'run "wm train-memory --run {run}" again')
    if checkpoint.metadata.get("memory") != memory_metadata(memory):
        report.line("memory: another size or version than the round before, so it starts anew")
        return memory, True
    # V may have moved its codebook since: M keeps what it learned, with the new vectors.
    vectors = {k: v for k, v in memory.state_dict().items() if k.endswith("vectors")}
    load_weights(memory, {**checkpoint.part("memory"), **vectors}, path)
    return memory, False


def new_memory(config: MemoryStageConfig, vision: Vision, num_actions: int) -> Memory:
    """An M with random weights, of V's kind and of the settings' size."""
    if isinstance(vision, VQVAE):
        codes = CodeRNNConfig(
            num_codes=vision.config.num_codes,
            digit_sizes=vision.config.digit_sizes,
            vector_size=vision.config.vector_size,
            num_actions=num_actions,
            num_hidden=config.num_hidden,
            num_mixtures=config.num_mixtures,
            head_width=config.head_width,
            coupled=config.coupled,
            reward_weight=config.reward_weight,
        )
        return make_memory(codes, config.members, vision.code_vectors.cpu())
    latents = MDNRNNConfig(
        num_latents=vision.config.num_latents,
        num_actions=num_actions,
        num_hidden=config.num_hidden,
        num_mixtures=config.num_mixtures,
        predict_change=config.predict_change,
        reward_weight=config.reward_weight,
    )
    return make_memory(latents, config.members)


@torch.no_grad()
def _write(
    vision: Vision, memory: Memory, held_out: EncodedEpisodes, run: Run, work: StageFolder
) -> None:
    facts = {
        "memory": memory_metadata(memory),
        "vision_digest": work.work["inputs"]["vision"],
        "seed": work.work["seed"],
    }
    path = work.partial / "memory.safetensors"
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), facts)
    row = liveliest(held_out)
    stored = run.store.split(held_out=True)[row].load()
    save_dreams(
        work.partial / "memory.png",
        vision,
        memory,
        held_out[slice(row, row + 1)],
        Decisions.from_rollout(stored, run.action_repeat).frames,
        start=max(0, int(held_out.lengths[row]) - SHOWN[-1]) // 2,
        decisions=SHOWN,
    )
