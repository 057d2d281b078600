"""The runs that are compared: kinds of V, seeds, and what C sees."""

from dataclasses import dataclass, replace

from worldmodels.presets import Preset, override

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Kind:
    """A kind of V.

    Attributes:
        quantizer: of a V with codes; None is the VAE.
    """

    label: str
    quantizer: str | None

    def settings(self, preset: Preset) -> Preset:
        """A preset with this kind's quantizer; all else is the same for all kinds."""
        model = override(preset.vqvae.model, quantizer=self.quantizer)
        return replace(preset, vqvae=replace(preset.vqvae, model=model))


KINDS = {
    "vae": Kind("VAE, 32 latents", None),
    "vq": Kind("VQ-VAE, 16 codes of 256", "vq"),
    "fsq": Kind("FSQ, 16 codes of 240", "fsq"),
}


# What an ablation lets C see, by a label and its inputs; "untrained" has random recurrent weights.
INPUTS = {
    "z": ("z only", "z"),
    "untrained": ("z and h of an untrained M", "zh"),
    "zh": ("z and h", "zh"),
}
# Kinds and seeds, in the order in which they are done: a seed of all kinds before the next.
RUNS = {f"{kind}-{seed}": (kind, seed) for seed in SEEDS for kind in KINDS}
# Runs and inputs.
ABLATIONS = {f"{run}-{inputs}": (run, inputs) for run in ("vae-1", "fsq-1") for inputs in INPUTS}
