"""Train M on the stored episodes, which V encodes."""

from typing import Any

import torch

from worldmodels.data.batches import AgentSteps
from worldmodels.dream.model import DreamModel
from worldmodels.dream.pictures import most_active_episode, save_dreams
from worldmodels.memory import AnyMemory, Memory, memory_metadata
from worldmodels.memory.encoded_episodes import EncodedEpisodes
from worldmodels.memory.encoding import (
    MAX_BYTES_IN_MEMORY,
    agent_steps_of,
    encode_split,
    encoded_bytes,
)
from worldmodels.memory.metrics import held_out_metrics, score_memory
from worldmodels.memory.part_size import part_bytes
from worldmodels.memory.training import MemoryStageConfig, SequenceBatches, new_memory
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.runs.checkpoint import load_checkpoint, load_weights, save_checkpoint, with_prefix
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig
from worldmodels.training.stage import TrainingStage
from worldmodels.vision import Vision, load_vision

# Bytes per number of V's posterior in a batch, which is held as a record and as a tensor.
BATCH_BYTES = 8
SHOWN = (0, 1, 2, 4, 8, 12, 16)  # agent steps since the pictured dream began


@locks_run
def train_memory(
    run: Run, config: MemoryStageConfig, *, report: Report, device: str = "cpu", round_: int = 1
) -> dict[str, Any]:
    """Train M, and write M, the metrics of M and a picture to the run's folder."""
    settings = run.settings
    run.store.refresh()
    run.store.require(run.folder)
    vision = load_vision(run, device)
    work = run.begin("memory", config, settings.seed, round_, report.log)
    if work is None:
        return run.result("memory") or {}
    memory, is_new = _new_or_earlier(run, config, vision, round_, report)
    fit = config.in_round(1 if is_new else round_)
    _plan(run, config, fit, vision, memory, device, report)
    train, held_out = (encode_split(run, vision, part, report) for part in (False, True))
    if is_new:
        memory.calibrate(train)
    memory.to(device)
    result = TrainingStage(
        model=memory,
        batch_at=SequenceBatches(
            train, fit.batch_size, config.sequence_length, config.burn_in, config.min_batch_steps
        ),
        validate=lambda: held_out_metrics(memory, held_out),
        fit=fit,
        seed=settings.seed + 1_000 * round_ + 1,
        shown=("loss", "nll", "val/nll"),
        figures=lambda: {
            **score_memory(vision, memory, train, held_out),
            "agent_steps": int(train.lengths.sum()),
            "ensemble_size": config.ensemble_size,
        },
        write=lambda: _write(vision, memory, held_out, run, work),
    ).run(work, report)
    r2 = result["reward_r2"]
    report.log(
        f"memory: held-out {result['nll']:.2f} nats per agent step "
        f"(persistence {result['persistence_nll']:.2f}), "
        + ("all rewards are equal" if r2 is None else f"reward R2 {r2:.2f}")
    )
    return result


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
    train, held_out = (run.store.split(part) for part in (False, True))
    sizes = [encoded_bytes(vision, part, repeat) for part in (train, held_out)]
    on_disk = sum(size for size in sizes if size > MAX_BYTES_IN_MEMORY)
    lengths = agent_steps_of(train, repeat)
    length = min(config.sequence_length, max(lengths))
    steps = fit.batch_size * length
    of_batch = steps * BATCH_BYTES * vision.posterior_size + part_bytes(memory, steps, length)
    report.estimate(
        f"memory: {sum(lengths):,} agent steps, {fit.num_steps:,} batches of {fit.batch_size} "
        f"sequences, {parameters:,} parameters, on {device}",
        disk_bytes=5 * 4 * parameters + on_disk,
        memory_bytes=PROCESS_BYTES + sum(sizes) - on_disk + of_batch,
        folder=run.folder,
    )


def _new_or_earlier(
    run: Run, config: MemoryStageConfig, vision: Vision, round_: int, report: Report
) -> tuple[AnyMemory, bool]:
    """Return the M of an earlier round or a new, random M, and whether the returned M is new."""
    torch.manual_seed(run.settings.seed + 1)
    memory = new_memory(config, vision, run.store.episodes[0].action_size)
    manifest = run.manifest("memory")
    if manifest is None or manifest["round"] >= round_:
        return memory, True
    path = run.weights("memory")
    checkpoint = load_checkpoint(path, hint=f'run "wm train-memory --run {run}" again')
    if checkpoint.metadata.get("memory") != memory_metadata(memory):
        report.log("memory: the earlier M has another size or version, so a new M is trained")
        return memory, True
    # V's codebook may have changed since, so M keeps its weights but takes the new code vectors.
    vectors = {k: v for k, v in memory.state_dict().items() if k.endswith("vectors")}
    load_weights(memory, {**checkpoint.part("memory"), **vectors}, path)
    return memory, False


@torch.no_grad()
def _write(
    vision: Vision, memory: Memory, held_out: EncodedEpisodes, run: Run, work: StageFolder
) -> None:
    digest, seed = work.work["inputs"]["vision"], work.work["seed"]
    metadata = {"memory": memory_metadata(memory), "vision_digest": digest, "seed": seed}
    path = work.partial / "memory.safetensors"
    save_checkpoint(path, with_prefix("memory", memory.state_dict()), metadata)
    row = most_active_episode(held_out)
    stored = run.store.split(held_out=True)[row].load()
    save_dreams(
        work.partial / "memory.png",
        DreamModel(vision, memory),
        held_out[row : row + 1],
        AgentSteps.from_rollout(stored, run.action_repeat).frames,
        start=max(0, int(held_out.lengths[row]) - SHOWN[-1]) // 2,
        agent_steps=SHOWN,
    )
