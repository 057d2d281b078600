"""MAP-Elites, and an autoencoder that is trained on the elites during the search.

In every generation the training of the autoencoder continues on the present elites. The autoencoder
makes children by the crossover (x + decode(encode(x))) / 2, where x is an elite. A reconstruction
keeps features that many elites share, and loses features of a single elite. The crossover therefore
weakens the features of a single elite.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.elites import Centroids, ElitesConfig, MapElites
from agents.operators import Solutions
from worldmodels.errors import UserError, check_at_least, reading
from worldmodels.map_elites.autoencoders import (
    AutoencoderConfig,
    SolutionAutoencoder,
    make_autoencoder,
)
from worldmodels.runs.checkpoint import Checkpoint, load_checkpoint, with_prefix
from worldmodels.training.fit import optimizer_tensors, restore_optimizer, step_generator
from worldmodels.training.seeding import global_seed

BATCH_SIZE, LEARNING_RATE = 64, 1e-3
# The weight decay of AdamW. Searches with and without it are equally good: at 1,000 joints, 20,000
# evaluations filled 0.64 and 0.67 of the cells with it, and 0.62 and 0.67 without.
WEIGHT_DECAY = 0.1


@dataclass(frozen=True)
class RepresentationSearchConfig:
    """Settings of a MAP-Elites search and of the training of its autoencoder.

    Attributes:
        model: settings of the autoencoder; if `model` is None, the search has no autoencoder.
        epochs: number of training epochs over all elites in each generation.

    Source: arXiv 2003.04389, section 4: Adam with a learning rate of 1e-3, batches of 64, and five
        epochs per generation. Differs: the training uses weight decay.
    """

    elites: ElitesConfig = field(default_factory=ElitesConfig)
    model: AutoencoderConfig | None = None
    epochs: int = 5

    def __post_init__(self) -> None:
        check_at_least(1, self, "epochs")
        if self.model is None and any(mix.reconstruction for mix in self.elites.mixes):
            raise UserError(
                "a mix with reconstruction needs an autoencoder: set `model`, or use line mixes"
            )


class RepresentationSearch:
    """A MAP-Elites search and its autoencoder; `step` runs one generation.

    Args:
        ranges: see `MapElites`.

    Attributes:
        training_seconds: seconds that the training of the autoencoder has taken so far.
    """

    def __init__(
        self,
        num_parameters: int,
        centroids: Centroids,
        config: RepresentationSearchConfig,
        seed: int = 0,
        ranges: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.training_seconds = 0.0
        self.model: SolutionAutoencoder | None = None
        if config.model is not None:
            with global_seed(step_generator(seed, 0).initial_seed()):
                self.model = make_autoencoder(num_parameters, config.model)
            self._optimizer = torch.optim.AdamW(
                self.model.parameters(),
                lr=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                fused=True,  # a step of the VAE takes 0.63 ms at 20 joints, 0.93 ms without
            )
        self.search = MapElites(
            num_parameters,
            centroids,
            config.elites,
            seed=seed,
            reconstruct=self._reconstruct,
            ranges=ranges,
        )

    def step(self, evaluate: Callable[[Solutions], tuple[np.ndarray, np.ndarray]]) -> None:
        """Train the autoencoder, make children, evaluate the children, and update the archive."""
        if self.model is not None and self.search.started:
            self._train(torch.from_numpy(self.search.elites))
        self.search.tell(*evaluate(self.search.ask()))

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON values from which `load_state_dict` restores the search."""
        state = self.search.state_dict()
        metadata = {"search": state.pop("search"), "training_seconds": self.training_seconds}
        tensors = {name: torch.from_numpy(value) for name, value in state.items()}
        if self.model is not None:
            tensors |= with_prefix("model", self.model.state_dict())
            tensors |= with_prefix("optimizer", optimizer_tensors(self._optimizer))
        return tensors, metadata

    def load_state_dict(self, saved: Checkpoint) -> None:
        """Restore a saved search, which then continues as if it had never stopped."""
        names = ("solutions", "fitness", "measures")
        arrays = {name: saved.tensors[name].numpy() for name in names}
        self.search.load_state_dict({**arrays, "search": saved.metadata["search"]})
        self.training_seconds = saved.metadata["training_seconds"]
        if self.model is not None:
            self.model.load_state_dict(saved.part("model"))
            restore_optimizer(self._optimizer, saved.part("optimizer"))

    def resume(self, path: Path) -> list[dict[str, Any]]:
        """Restore the search from the file `path`, and return the search's history.

        If the file does not exist, the search is unchanged and the history is empty.
        """
        if not path.exists():
            return []
        hint = f"delete {path.parent} to start again"
        saved = load_checkpoint(path, hint=hint)
        with reading(path, hint):
            self.load_state_dict(saved)
            return cast(list[dict[str, Any]], saved.metadata["history"])

    def _reconstruct(self, solutions: Solutions) -> Solutions:
        assert self.model is not None
        return self.model.reconstruct(torch.from_numpy(solutions)).numpy()

    def _train(self, elites: Float[Tensor, "elite parameter"]) -> None:
        assert self.model is not None
        started = time.perf_counter()
        generator = step_generator(self.seed, self.search.generation + 1)
        self.model.train()
        # The quantizer and the VAE's noise use the global generator, so it is seeded here.
        with global_seed(generator.initial_seed()):
            for _ in range(self.config.epochs):
                for rows in torch.randperm(len(elites), generator=generator).split(BATCH_SIZE):
                    loss = self.model.loss(elites[rows])
                    self._optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    self._optimizer.step()
        self.model.eval()
        self.training_seconds += time.perf_counter() - started
