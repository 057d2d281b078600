import numpy as np
import pytest
import torch

from envs.arm import PlanarArm
from worldmodels.map_elites.autoencoders import AutoencoderConfig, make_autoencoder
from worldmodels.map_elites.targets import TARGETS, code_space, direct_space, reach

ARM = PlanarArm(10)


def test_the_papers_targets_can_be_reached() -> None:
    assert TARGETS.shape == (18, 2)
    assert len(np.unique(TARGETS, axis=0)) == 18
    assert np.linalg.norm(TARGETS - 0.5, axis=1).max() < 0.5


def test_a_near_target_is_found_and_what_is_told_is_of_the_best() -> None:
    attempt = reach(np.array([0.7, 0.6]), direct_space(10), ARM, 600, seed=0)
    assert attempt.distances.shape == attempt.spreads.shape == (600,)
    assert (np.diff(attempt.distances) <= 0).all()
    assert attempt.distances[-1] < 0.01 < attempt.distances[0]
    improved = np.flatnonzero(np.diff(attempt.distances))
    assert (np.flatnonzero(np.diff(attempt.spreads)) == improved).all()
    again = reach(np.array([0.7, 0.6]), direct_space(10), ARM, 600, seed=0)
    assert np.array_equal(again.distances, attempt.distances)


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_codes_stand_for_what_their_decoder_says(kind: str) -> None:
    torch.manual_seed(0)
    model = make_autoencoder(10, AutoencoderConfig(kind=kind, num_latents=4)).eval()
    space = code_space(model)
    assert space.num_parameters == model.config.num_numbers
    points = np.random.default_rng(0).uniform(-5, 5, (6, space.num_parameters))
    expected = model.decode(torch.from_numpy(points).float())
    assert np.array_equal(space.express(points), expected.detach().numpy())
    attempt = reach(np.array([0.7, 0.6]), space, ARM, 60, seed=0)
    assert attempt.distances[-1] <= attempt.distances[0]


def test_too_few_evaluations_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 10 evaluations, got 9"):
        reach(TARGETS[0], direct_space(10), ARM, 9, seed=0)
