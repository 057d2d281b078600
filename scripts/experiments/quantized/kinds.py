"""The runs that are compared: kinds of V, seeds, and inputs of C."""

from dataclasses import dataclass, replace

from worldmodels.presets import Preset, override

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Kind:
    """A kind of V.

    Attributes:
        quantizer: name of the quantizer of a V with codes, or None for the VAE.
    """

    label: str
    quantizer: str | None

    def settings(self, preset: Preset) -> Preset:
        """Return the preset with this quantizer. Presets of other kinds differ in nothing else."""
        model = override(preset.vqvae.model, quantizer=self.quantizer)
        return replace(preset, vqvae=replace(preset.vqvae, model=model))


KINDS = {
    "vae": Kind("VAE, 32 latents", None),
    "vq": Kind("VQ-VAE, 16 codes of 256", "vq"),
    "fsq": Kind("FSQ, 16 codes of 240", "fsq"),
}


# The label and the inputs of C in each ablation; the M of "untrained" has random recurrent weights.
INPUTS = {
    "z": ("z only", "z"),
    "untrained": ("z and h of an untrained M", "zh"),
    "zh": ("z and h", "zh"),
}
# Kind and seed of each run, in the order in which runs are done: one seed after the other.
RUNS = {f"{kind}-{seed}": (kind, seed) for seed in SEEDS for kind in KINDS}
# Run and inputs of C of each ablation.
ABLATIONS = {f"{run}-{inputs}": (run, inputs) for run in ("vae-1", "fsq-1") for inputs in INPUTS}
