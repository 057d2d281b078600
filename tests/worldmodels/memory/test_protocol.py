from collections.abc import Callable

import pytest
import torch

from tests.fixtures.tiny_models import codernn, mdnrnn
from worldmodels.memory import AnyMemory, Memory, MemoryEnsemble, Prediction

MEMORIES: dict[str, Callable[[], AnyMemory]] = {
    "mdnrnn": mdnrnn,
    "codernn": codernn,
    "ensemble": lambda: MemoryEnsemble([mdnrnn(seed) for seed in range(3)]),
}


@pytest.mark.parametrize("kind", MEMORIES)
def test_every_m_keeps_the_contract(kind: str) -> None:
    memory: Memory = MEMORIES[kind]()
    assert isinstance(memory, Memory)
    assert memory.num_actions == 3
    assert memory.ensemble_size == (3 if kind == "ensemble" else 1)
    latent = torch.zeros(2, 2, dtype=torch.int64) if kind == "codernn" else torch.zeros(2, 3)
    state, prediction = memory.step(memory.initial(2), latent, torch.zeros(2, 3))
    assert isinstance(prediction, Prediction)
    assert memory.features(state).shape == (2, memory.config.num_hidden)
    assert (prediction.disagreement() is None) == (memory.ensemble_size == 1)
