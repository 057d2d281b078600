"""The number of agent steps that M's loss processes at once, so that its memory is bounded.

A batch of the paper's 100 sequences of 999 agent steps takes 1.9 GB for an MDN-RNN of 256 units,
and 36 GB for a mixture of 5 over 16 codes of 256 values. Training therefore adds up the gradients
of several parts of a large batch. Smaller batches are one part.
"""

from collections.abc import Iterator

import torch

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory.protocol import Memory

MAX_BYTES = 512_000_000
# A part uses this fraction of a GPU's memory; smaller parts would leave most of the GPU idle.
GPU_FRACTION = 0.25


def part_steps(memory: Memory, device: torch.device | str = "cpu") -> int:
    """Return how many agent steps a part may have on this device; it is at least one."""
    place, limit = torch.device(device), MAX_BYTES
    if place.type == "cuda":
        limit = int(GPU_FRACTION * torch.cuda.get_device_properties(place).total_memory)
    return max(1, limit // (4 * memory.training_floats()))


def part_bytes(memory: Memory, steps: int, length: int) -> int:
    """Return the bytes that the loss takes on a CPU for `steps` steps in sequences of `length`."""
    rows = max(1, part_steps(memory) // length)
    return 4 * memory.training_floats() * min(steps, rows * length)


def split_batch(
    memory: Memory, batch: SequenceBatch, max_steps: int | None = None
) -> Iterator[tuple[SequenceBatch, float]]:
    """Split a batch into parts of whole sequences, each weighted by its share of the mask.

    Args:
        max_steps: agent steps per part, padding included; None takes `part_steps`.
    """
    most = part_steps(memory, batch.mask.device) if max_steps is None else max_steps
    if batch.mask.numel() <= most:
        yield batch, 1.0
        return
    total = float(batch.mask.sum())
    for part in batch.parts(most):
        yield part, float(part.mask.sum()) / total
