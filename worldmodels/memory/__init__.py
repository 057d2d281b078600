"""M: what comes next, given what was and what is done."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodels.checkpoint import Checkpoint, load_weights
from worldmodels.memory.codernn import CodePrediction, CodeRNN, CodeRNNConfig
from worldmodels.memory.lstm import LSTMState
from worldmodels.memory.mdnrnn import MDNRNN, MDNRNNConfig, MixturePrediction

Memory = MDNRNN | CodeRNN
Prediction = MixturePrediction | CodePrediction

__all__ = [
    "MDNRNN",
    "CodePrediction",
    "CodeRNN",
    "CodeRNNConfig",
    "LSTMState",
    "MDNRNNConfig",
    "Memory",
    "MixturePrediction",
    "Prediction",
]


def memory_metadata(memory: Memory) -> dict[str, Any]:
    """What `restore_memory` needs beside the weights, as JSON."""
    return {"kind": memory.kind, "config": asdict(memory.config)}


def restore_memory(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> Memory:
    """M from the `memory` part of a checkpoint."""
    facts = checkpoint.metadata["memory"]
    config: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()
    }
    memory: Memory
    if facts["kind"] == "mdnrnn":
        memory = MDNRNN(MDNRNNConfig(**config))
    else:
        memory = CodeRNN(CodeRNNConfig(**config))
    load_weights(memory, checkpoint.part("memory"), path)
    return memory.eval().to(device)
