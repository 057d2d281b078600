"""A run's V and M, and the real moments its dreams begin at."""

from pathlib import Path

from worldmodels.checkpoint import load_checkpoint
from worldmodels.data.batches import SequenceBatch
from worldmodels.device import choose_device
from worldmodels.encoding import encode_episodes
from worldmodels.errors import UserError
from worldmodels.memory import Memory, restore_memory
from worldmodels.provenance import file_digest
from worldmodels.report import Report
from worldmodels.run import Run
from worldmodels.vision import Vision, restore_vision

MAX_EPISODES_FOR_STARTS = 256


def load_world_model(run: Run | str | Path, device: str = "cpu") -> tuple[Vision, Memory]:
    """V and M of a run.

    Args:
        device: "auto", "cpu", "cuda" or "mps".

    Raises: UserError where one is missing or unreadable, or M was trained on another V.
    """
    run = run if isinstance(run, Run) else Run(run)
    _ = run.settings  # where there is no run at all, that is what to say
    device = choose_device(device)
    vision_path, memory_path = run.weights("vision"), run.weights("memory")
    vision_file = load_checkpoint(vision_path, remedy=f'run "wm train-vision --run {run}" first')
    memory_file = load_checkpoint(memory_path, remedy=f'run "wm train-memory --run {run}" first')
    if memory_file.metadata["vision_digest"] != file_digest(vision_path):
        raise UserError(
            f"{memory_path} was trained on another V than {vision_path}, whose latents meant "
            f'something else: run "wm train-memory --run {run}" again'
        )
    vision = restore_vision(vision_file, vision_path, device)
    return vision, restore_memory(memory_file, memory_path, device)


def encode_newest(
    run: Run, vision: Vision, report: Report, most: int = MAX_EPISODES_FOR_STARTS
) -> SequenceBatch:
    """The newest training episodes as V sees them, where dreams of a run begin; on the CPU."""
    run.store.require(run.folder)
    episodes = run.store.split(held_out=False)
    chosen = sorted(episodes, key=lambda episode: -episode.index)[:most]
    with report.progress("encode starts", total=len(chosen)) as meter:
        return encode_episodes(vision, chosen, run.action_repeat, meter.advance, run.encodings)
