"""Settings of a MAP-Elites search on the planar arm, and a function that loads its autoencoder."""

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path

from agents.elites import ElitesConfig
from agents.operators import ALL_MIXES, LINE_MIXES, Mix
from worldmodels.errors import UserError, check_at_least, check_choice, reading
from worldmodels.map_elites.autoencoders import (
    KINDS,
    AutoencoderConfig,
    SolutionAutoencoder,
    make_autoencoder,
)
from worldmodels.map_elites.search import RepresentationSearchConfig
from worldmodels.runs.checkpoint import load_checkpoint, restore_module

OPERATORS = ("line", *KINDS)
ARCHIVE = "elites.safetensors"
# Half of the children come from reconstruction, half from lines. With noise instead of lines,
# 20,000 evaluations at 1,000 joints filled 0.62 of the cells instead of 0.72 (one seed).
_MODEL_MIX = Mix(reconstruction=0.5, line=0.5)


@dataclass(frozen=True)
class ArmConfig:
    """Settings of a search on the planar arm; the defaults are those of arXiv 2003.04389.

    Attributes:
        operator: "line" for steps along lines between elites, or the kind of autoencoder ("vae" or
            "vqvae") whose reconstruction is used as a crossover.
        bandit: whether a bandit selects the mix of operators. The bandit prefers mixes whose
            children often became elites in recent generations.
        num_cells: number of cells of the archive. The cells have equal size and cover the disc that
            the arm can reach.

    Source: arXiv 2003.04389, section 4.
    """

    joints: int = 20
    operator: str = "line"
    bandit: bool = False
    evaluations: int = 1_000_000
    num_cells: int = 1_950
    batch_size: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("operator", self.operator, OPERATORS)
        check_at_least(1, self, "joints", "num_cells", "batch_size", "evaluations")
        check_at_least(0, self, "seed")

    @property
    def generations(self) -> int:
        """The smallest number of generations with at least `evaluations` evaluations in all."""
        return math.ceil(self.evaluations / self.batch_size)

    @property
    def representation_search(self) -> RepresentationSearchConfig:
        """The settings of MAP-Elites and of the autoencoder."""
        mixes, model = LINE_MIXES if self.bandit else LINE_MIXES[-1:], None
        if self.operator != "line":
            mixes = ALL_MIXES if self.bandit else (_MODEL_MIX,)
            model = AutoencoderConfig(kind=self.operator)
            if self.joints <= 20:
                model = replace(model, num_latents=10, num_codes=3, code_size=3)
        elites = ElitesConfig(
            batch_size=self.batch_size,
            initial_coverage=0.01 if self.joints > 200 else 0.05,
            mixes=mixes,
            qd_score_offset=-math.pi / 2,  # the angles' deviation is at most pi/2
        )
        return RepresentationSearchConfig(elites, model)


def load_autoencoder(archive: Path) -> tuple[ArmConfig, SolutionAutoencoder]:
    """Load the settings and the autoencoder of the search whose archive is in a folder.

    Args:
        archive: the folder of the archive.

    Raises: UserError if the folder has no archive, or if the search had no autoencoder.
    """
    hint = 'run "wm elites arm --operator vae --out FOLDER" first'
    path = archive / ARCHIVE
    saved = load_checkpoint(path, hint=hint)
    with reading(path, hint):
        config = ArmConfig(**saved.metadata["config"])
    settings = config.representation_search.model
    if settings is None:
        raise UserError(
            f"{archive} has no autoencoder, because its search used the line operator: {hint}"
        )
    make = functools.partial(make_autoencoder, config.joints, settings)
    return config, restore_module(make, saved.part("model"), path, hint).eval()
