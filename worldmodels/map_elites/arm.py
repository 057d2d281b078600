"""Searches on the planar arm: their settings, and what a finished one left."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.elites import ElitesConfig
from agents.operators import ALL_MIXES, LINE_MIXES, Mix
from worldmodels.errors import UserError, reading
from worldmodels.map_elites.autoencoders import (
    KINDS,
    AutoencoderConfig,
    SolutionAutoencoder,
    make_autoencoder,
)
from worldmodels.map_elites.search import RepresentationSearchConfig
from worldmodels.runs.checkpoint import load_checkpoint, restore_module
from worldmodels.runs.json_files import read_json

OPERATORS = ("line", *KINDS)
ARCHIVE = "elites.safetensors"
# Half by reconstruction, half along lines: with noise in place of lines 20,000 evaluations filled
# 0.62 of the cells instead of 0.72 at 1,000 joints (one seed).
_MODEL_MIX = Mix(reconstruction=0.5, line=0.5)


@dataclass(frozen=True)
class ArmConfig:
    """A search on the arm; the defaults are the paper's.

    Attributes:
        operator: "line", or the kind of autoencoder whose reconstruction is a crossover.
        bandit: choose the mix of operators by the number of elites that it added lately.
        num_cells: cells of equal size, in the disc that the arm can reach.

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
        if self.operator not in OPERATORS:
            raise UserError(f'operator must be among {", ".join(OPERATORS)}, got "{self.operator}"')
        for name in ("joints", "num_cells", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise UserError(f"expected a seed of 0 or more, got {self.seed}")

    @property
    def generations(self) -> int:
        """The fewest whole generations with at least `evaluations` evaluations."""
        return math.ceil(self.evaluations / self.batch_size)

    @property
    def representation_search(self) -> RepresentationSearchConfig:
        """The settings of the search itself."""
        elites = ElitesConfig(
            batch_size=self.batch_size,
            initial_coverage=0.01 if self.joints > 200 else 0.05,
            qd_score_offset=-math.pi / 2,  # no angles within -pi/2 to pi/2 deviate by more
        )
        if self.operator == "line":
            mixes = LINE_MIXES if self.bandit else elites.mixes
            return RepresentationSearchConfig(elites=replace(elites, mixes=mixes))
        mixes = ALL_MIXES if self.bandit else (_MODEL_MIX,)
        model = AutoencoderConfig(kind=self.operator)
        if self.joints <= 20:
            model = replace(model, num_latents=10, num_codes=3, code_size=3)
        return RepresentationSearchConfig(elites=replace(elites, mixes=mixes), model=model)


def load_result(folder: Path) -> dict[str, Any]:
    """The figures of a finished search."""
    result: dict[str, Any] = read_json(folder / "result.json")
    return result


def load_autoencoder(archive: Path) -> tuple[ArmConfig, SolutionAutoencoder]:
    """What an archive was searched with, and the autoencoder of its elites.

    Raises: UserError where there is no archive in the folder, or it was searched without one.
    """
    hint = 'run "wm elites arm --operator vae --out FOLDER" first'
    saved = load_checkpoint(archive / ARCHIVE, hint=hint)
    with reading(archive / ARCHIVE, hint):
        config = ArmConfig(**saved.metadata["config"])
    settings = config.representation_search.model
    if settings is None:
        raise UserError(f"{archive} was searched with the line operator, it has no codes: {hint}")
    model = restore_module(
        lambda: make_autoencoder(config.joints, settings),
        saved.part("model"),
        archive / ARCHIVE,
        hint,
    )
    return config, model.eval()
