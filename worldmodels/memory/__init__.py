"""M, the recurrent model that predicts the next latent, the reward and the end of the episode."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worldmodels.errors import reading
from worldmodels.memory.code_prediction import CodePrediction as CodePrediction
from worldmodels.memory.codernn import CodeRNN as CodeRNN
from worldmodels.memory.codernn import CodeRNNConfig as CodeRNNConfig
from worldmodels.memory.ensemble import EnsemblePrediction as EnsemblePrediction
from worldmodels.memory.ensemble import MemoryEnsemble as MemoryEnsemble
from worldmodels.memory.lstm import LSTMState as LSTMState
from worldmodels.memory.mdnrnn import MDNRNN as MDNRNN
from worldmodels.memory.mdnrnn import MDNRNNConfig as MDNRNNConfig
from worldmodels.memory.mixture_prediction import MixturePrediction as MixturePrediction
from worldmodels.memory.protocol import Memory as Memory
from worldmodels.memory.protocol import MemorySettings as MemorySettings
from worldmodels.memory.protocol import Prediction as Prediction
from worldmodels.runs.checkpoint import Checkpoint, restore_module

MemoryConfig = MDNRNNConfig | CodeRNNConfig
AnyMemory = MDNRNN | CodeRNN | MemoryEnsemble  # every implementation of `Memory`

# Names of settings and parameters in files of earlier versions, and their present names.
_EARLY_NAMES = {
    "coupled": "autoregressive",
    "members": "ensemble_size",
    "keep": "persistence_bonus",
}


def make_memory(
    config: MemoryConfig, ensemble_size: int = 1, code_vectors: torch.Tensor | None = None
) -> AnyMemory:
    """Make an M with random weights, or an ensemble if `ensemble_size` is above 1.

    Args:
        code_vectors: the vectors of V's codes, (K, vector size). Only an M over codes needs these.
    """

    def make() -> MDNRNN | CodeRNN:
        return MDNRNN(config) if isinstance(config, MDNRNNConfig) else CodeRNN(config, code_vectors)

    return make() if ensemble_size == 1 else MemoryEnsemble([make() for _ in range(ensemble_size)])


def memory_metadata(memory: Memory) -> dict[str, Any]:
    """Return what `restore_memory` needs in addition to the weights, as JSON values."""
    size = memory.ensemble_size
    metadata = {"kind": memory.kind, "ensemble_size": size, "config": asdict(memory.config)}
    result: dict[str, Any] = json.loads(json.dumps(metadata))
    return result


def restore_memory(
    checkpoint: Checkpoint, path: Path, device: str | torch.device = "cpu"
) -> AnyMemory:
    """Restore M from the `memory` part of a checkpoint.

    Raises: UserError if the checkpoint is not valid; the message names `path`.
    """
    hint = "train M again"
    weights = {_present_name(name): w for name, w in checkpoint.part("memory").items()}
    with reading(path, hint):
        metadata = {_present_name(k): v for k, v in checkpoint.metadata["memory"].items()}
        settings: dict[str, Any] = {
            _present_name(k): tuple(v) if isinstance(v, list) else v
            for k, v in metadata["config"].items()
        }
        kind = MDNRNNConfig if metadata["kind"] == "mdnrnn" else CodeRNNConfig
        config, size = kind(**settings), metadata["ensemble_size"]
        if not 1 <= size <= len(weights):
            raise ValueError(f"expected an ensemble of 1 to {len(weights)} models, got {size}")
    memory = restore_module(lambda: make_memory(config, size), weights, path, hint)
    return memory.eval().to(device)


def _present_name(name: str) -> str:
    """Return the present name of a setting or parameter; `name` may be of an earlier version."""
    prefix, dot, last = name.rpartition(".")
    return f"{prefix}{dot}{_EARLY_NAMES.get(last, last)}"
