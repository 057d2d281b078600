"""The runs that are compared: kinds of V, seeds, and what C sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

from worldmodels.presets import Preset
from worldmodels.vision import VQVAEConfig

SEEDS = (1, 2, 3)
ABLATED_KINDS, ABLATED_SEED = ("vae", "fsq"), 1


@dataclass(frozen=True)
class Kind:
    """A kind of V.

    Attributes:
        quantizer: of a V with codes; None is the VAE.
    """

    label: str
    quantizer: str | None

    @property
    def quantized(self) -> bool:
        """Whether V has codes."""
        return self.quantizer is not None

    def settings(self, preset: Preset) -> Preset:
        """A preset with this kind's quantizer; all else is the same for all kinds."""
        model = preset.vqvae.model
        if self.quantizer is None or not isinstance(model, VQVAEConfig):
            return preset
        model = replace(model, quantizer=self.quantizer)
        return replace(preset, vqvae=replace(preset.vqvae, model=model))


KINDS = {
    "vae": Kind("VAE, 32 latents", None),
    "vq": Kind("VQ-VAE, 16 codes of 256", "vq"),
    "fsq": Kind("FSQ, 16 codes of 240", "fsq"),
}


@dataclass(frozen=True)
class Inputs:
    """What an ablation lets C see."""

    label: str
    inputs: str
    trained: bool = True


ABLATIONS = {
    "z": Inputs("z only", "z"),
    "untrained": Inputs("z and h of an untrained M", "zh", trained=False),
    "zh": Inputs("z and h", "zh"),
}


@dataclass(frozen=True)
class Cell:
    """One call's worth of work, and the name of its result file.

    Attributes:
        ablation: one of `ABLATIONS`, of the run of that kind and seed; None is the run itself.
    """

    kind: str
    seed: int
    ablation: str | None = None

    @property
    def name(self) -> str:
        """As `--only` takes it."""
        parts = [self.kind, str(self.seed), self.ablation]
        return "-".join(part for part in parts if part is not None)

    @property
    def run_name(self) -> str:
        """The folder of its run."""
        return f"{self.kind}-{self.seed}"


def all_cells() -> dict[str, Cell]:
    """By name, in the order in which they are worked on: a seed of all kinds before the next."""
    runs = [Cell(kind, seed) for seed in SEEDS for kind in KINDS]
    parts = [Cell(kind, ABLATED_SEED, part) for kind in ABLATED_KINDS for part in ABLATIONS]
    return {cell.name: cell for cell in (*runs, *parts)}
