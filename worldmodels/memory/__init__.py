"""M: what comes next, given what was and what is done."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodels.errors import reading
from worldmodels.memory.code_head import CodePrediction
from worldmodels.memory.codernn import CodeRNN, CodeRNNConfig
from worldmodels.memory.ensemble import EnsemblePrediction, MemoryEnsemble
from worldmodels.memory.lstm import LSTMState
from worldmodels.memory.mdnrnn import MDNRNN, MDNRNNConfig, MixturePrediction
from worldmodels.runs.checkpoint import Checkpoint, restore_module

Memory = MDNRNN | CodeRNN | MemoryEnsemble
MemoryConfig = MDNRNNConfig | CodeRNNConfig
Prediction = MixturePrediction | CodePrediction | EnsemblePrediction

__all__ = [
    "MDNRNN",
    "CodePrediction",
    "CodeRNN",
    "CodeRNNConfig",
    "EnsemblePrediction",
    "LSTMState",
    "MDNRNNConfig",
    "Memory",
    "MemoryConfig",
    "MemoryEnsemble",
    "MixturePrediction",
    "Prediction",
    "make_memory",
    "memory_metadata",
    "restore_memory",
]


def make_memory(
    config: MemoryConfig, members: int = 1, code_vectors: torch.Tensor | None = None
) -> Memory:
    """An M with random weights; several that vote where `members` is above 1.

    Args:
        code_vectors: what V's codes stand for, (K, vector size); of M over codes only.
    """

    def make() -> MDNRNN | CodeRNN:
        return MDNRNN(config) if isinstance(config, MDNRNNConfig) else CodeRNN(config, code_vectors)

    return make() if members == 1 else MemoryEnsemble([make() for _ in range(members)])


def memory_metadata(memory: Memory) -> dict[str, Any]:
    """What `restore_memory` needs beside the weights, as JSON gives it back."""
    members = len(memory.members) if isinstance(memory, MemoryEnsemble) else 1
    facts = {"kind": memory.kind, "members": members, "config": asdict(memory.config)}
    return json.loads(json.dumps(facts))


def restore_memory(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> Memory:
    """M from the `memory` part of a checkpoint; raises UserError naming `path`."""
    hint = "train M again"
    weights = checkpoint.part("memory")
    with reading(path, hint):
        facts = checkpoint.metadata["memory"]
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()
        }
        kind = MDNRNNConfig if facts["kind"] == "mdnrnn" else CodeRNNConfig
        config, members = kind(**settings), facts["members"]
        if not 1 <= members <= len(weights):
            raise ValueError(f"members is {members}, of {len(weights)} tensors")
    memory = restore_module(lambda: make_memory(config, members), weights, path, hint)
    return memory.eval().to(device)
