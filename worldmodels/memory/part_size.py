"""How many agent steps M's loss takes at once, so that its memory is bounded.

A batch of the paper's 100 sequences of 999 agent steps holds 1.9 GB for an MDN-RNN of 256 units,
and 36 GB for a mixture of 5 over 16 codes of 256 values. Training therefore adds up the gradients
of parts of such a batch; smaller batches are one part.
"""

from collections.abc import Iterator

import torch

from worldmodels.data.sequences import SequenceBatch
from worldmodels.memory.protocol import Memory

MAX_BYTES = 512_000_000
# Of a GPU's memory: parts that are too small would leave most of it without work.
GPU_FRACTION = 0.25


def part_steps(memory: Memory, device: torch.device | str = "cpu") -> int:
    """Agent steps whose loss and gradient stay within the limit of that device; one at least."""
    place, limit = torch.device(device), MAX_BYTES
    if place.type == "cuda":
        limit = int(GPU_FRACTION * torch.cuda.get_device_properties(place).total_memory)
    return max(1, limit // (4 * memory.training_floats()))


def part_bytes(memory: Memory, steps: int, length: int) -> int:
    """What the loss of a batch of so many agent steps, in sequences of `length`, holds on a CPU."""
    rows = max(1, part_steps(memory) // length)
    return 4 * memory.training_floats() * min(steps, rows * length)


def split_batch(
    memory: Memory, batch: SequenceBatch, max_steps: int | None = None
) -> Iterator[tuple[SequenceBatch, float]]:
    """Parts of whole sequences, each with its share of the agent steps to learn from.

    Args:
        max_steps: of a part, padding included; None takes `part_steps`.
    """
    most = part_steps(memory, batch.mask.device) if max_steps is None else max_steps
    if batch.mask.numel() <= most:
        yield batch, 1.0
        return
    total = float(batch.mask.sum())
    for part in batch.parts(most):
        yield part, float(part.mask.sum()) / total
