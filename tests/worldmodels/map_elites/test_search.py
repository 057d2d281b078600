from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.elites import ElitesConfig, EliteStats, disc_centroids
from agents.operators import ALL_MIXES, Mix
from envs.arm import PlanarArm
from worldmodels.errors import UserError
from worldmodels.map_elites.autoencoders import AutoencoderConfig
from worldmodels.map_elites.search import RepresentationSearch, RepresentationSearchConfig
from worldmodels.runs.checkpoint import Checkpoint

CELLS = disc_centroids(100)
MODEL = AutoencoderConfig(num_latents=4, num_codes=2, code_size=2)
SMALL = RepresentationSearchConfig(
    elites=ElitesConfig(batch_size=25, mixes=(Mix(reconstruction=0.5, line=0.5),)),
    model=MODEL,
    epochs=2,
)


def config_of(kind: str, mixes: tuple[Mix, ...] = SMALL.elites.mixes) -> RepresentationSearchConfig:
    return replace(
        SMALL,
        elites=replace(SMALL.elites, mixes=mixes),
        model=replace(MODEL, kind=kind),
    )


def searched(
    config: RepresentationSearchConfig, generations: int, joints: int = 12, seed: int = 0
) -> tuple[RepresentationSearch, list[EliteStats]]:
    representation_search, arm = (
        RepresentationSearch(joints, CELLS, config, seed),
        PlanarArm(joints),
    )
    return representation_search, [
        generation(representation_search, arm) for _ in range(generations)
    ]


def generation(representation_search: RepresentationSearch, arm: PlanarArm) -> EliteStats:
    representation_search.step(arm.evaluate)
    return representation_search.search.stats()


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
@pytest.mark.parametrize("mixes", [SMALL.elites.mixes, ALL_MIXES], ids=["one mix", "bandit"])
def test_a_saved_search_goes_on_as_if_it_had_not_stopped(kind: str, mixes: tuple[Mix, ...]) -> None:
    config, arm = config_of(kind, mixes), PlanarArm(12)
    whole, expected = searched(config, 26)
    first, _ = searched(config, 13)
    torch.rand(7)  # what else draws from the global generator must not matter
    resumed = RepresentationSearch(12, CELLS, config)
    resumed.load_state_dict(Checkpoint(*first.state_dict()))
    assert [generation(resumed, arm) for _ in range(13)] == expected[13:]
    assert np.array_equal(resumed.search.elites, whole.search.elites)
    assert resumed.model is not None and whole.model is not None
    for mine, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_model_of_many_joints_finds_likeness_that_lines_do_not() -> None:
    line = RepresentationSearchConfig(elites=replace(SMALL.elites, mixes=(Mix(line=1.0),)))
    model = replace(SMALL, model=AutoencoderConfig(num_latents=8), epochs=5)
    _, by_line = searched(line, 60, joints=300)
    representation_search, by_model = searched(model, 60, joints=300)
    assert by_model[-1].mean_fitness > 0.75 * by_line[-1].mean_fitness  # both are below 0
    elites = torch.from_numpy(representation_search.search.elites)
    assert representation_search.model is not None
    error = (representation_search.model.reconstruct(elites) - elites).square().sum(-1).mean()
    assert error < 0.75 * (elites - elites.mean(0)).square().sum(-1).mean()


def test_the_model_waits_for_elites() -> None:
    representation_search = RepresentationSearch(
        12, CELLS, replace(SMALL, elites=replace(SMALL.elites, initial_coverage=1.0))
    )
    assert representation_search.model is not None
    before = [parameter.clone() for parameter in representation_search.model.parameters()]
    for _ in range(3):
        representation_search.step(PlanarArm(12).evaluate)
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, representation_search.model.parameters(), strict=True)
    )
    assert representation_search.training_seconds == 0


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="a mix with reconstruction needs an autoencoder"):
        RepresentationSearchConfig(elites=SMALL.elites)
    with pytest.raises(UserError, match="epochs must be at least 1, got 0"):
        replace(SMALL, epochs=0)
