"""Division of batches into parts, so that the loss of M takes a bounded amount of memory.

The paper's batch has 100 sequences of 999 agent steps. The loss of the paper's batch takes 2.8 GB
for an MDN-RNN of 256 units, and 36 GB for an M over 16 codes of 256 values with 5 components.
Training therefore divides a large batch into several parts and adds up the gradients of the parts.
A small batch is a single part.
"""

from collections.abc import Iterator

import torch

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory.protocol import Memory

MAX_BYTES = 512_000_000
# A part uses this fraction of a GPU's memory; smaller parts would leave most of the GPU idle.
GPU_FRACTION = 0.25


def part_steps(memory: Memory, device: torch.device | str = "cpu") -> int:
    """Return the largest number of agent steps, at least 1, that a part may have on this device."""
    place, limit = torch.device(device), MAX_BYTES
    if place.type == "cuda":
        limit = int(GPU_FRACTION * torch.cuda.get_device_properties(place).total_memory)
    return max(1, limit // (4 * memory.training_floats()))


def part_bytes(memory: Memory, steps: int, length: int) -> int:
    """Return how many bytes of memory the loss of a batch takes on a CPU.

    The batch has `steps` agent steps in sequences of `length` agent steps.
    """
    rows = max(1, part_steps(memory) // length)
    return 4 * memory.training_floats() * min(steps, rows * length)


def split_batch(
    memory: Memory, batch: SequenceBatch, max_steps: int | None = None
) -> Iterator[tuple[SequenceBatch, float]]:
    """Split a batch into parts of whole sequences, and yield each part with a weight.

    The weight of a part is its fraction of the real agent steps of the batch, without padding.

    Args:
        max_steps: largest number of agent steps per part, including padding. If `max_steps` is
            None, the function `part_steps` determines this number.
    """
    most = part_steps(memory, batch.mask.device) if max_steps is None else max_steps
    if batch.mask.numel() <= most:
        yield batch, 1.0
        return
    total = float(batch.mask.sum())
    for part in batch.parts(most):
        yield part, float(part.mask.sum()) / total
