"""The global generators of the CPU and of the device are seeded within a context."""

import pytest
import torch
from torch import Tensor

from tests.fixtures.emulated_device import emulated_device
from worldmodels.training.seeding import generator_on, global_seed


def draws(device: str) -> tuple[Tensor, Tensor]:
    return torch.rand(3), torch.rand(3, device=device).cpu()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_the_device_s_generator_is_seeded_too_and_goes_on_as_before(device: str) -> None:
    with emulated_device(device):
        torch.manual_seed(1)
        expected = [draws(device) for _ in range(2)]
        torch.manual_seed(1)
        first = draws(device)
        with global_seed(7, device):
            inside = draws(device)
        second = draws(device)
        with global_seed(7, device):
            again = draws(device)
        for found, wanted in zip((first, second), expected, strict=True):
            assert torch.equal(torch.stack(found), torch.stack(wanted))
        assert torch.equal(torch.stack(inside), torch.stack(again))
        seeded = torch.rand(3, generator=torch.Generator().manual_seed(7))
        assert torch.equal(inside[0], seeded) and torch.equal(inside[1], seeded)


def test_a_seed_for_the_cpu_leaves_the_device_alone() -> None:
    with emulated_device("cuda"):
        torch.manual_seed(1)
        expected = draws("cuda")[1]
        torch.manual_seed(1)
        with global_seed(7):
            pass
        assert torch.equal(draws("cuda")[1], expected)


def test_both_generators_are_restored_after_an_error() -> None:
    with emulated_device("cuda"):
        torch.manual_seed(1)
        expected = draws("cuda")
        torch.manual_seed(1)
        with pytest.raises(KeyError, match="oops"), global_seed(7, "cuda"):
            raise KeyError("oops", *draws("cuda"))
        assert torch.equal(torch.stack(draws("cuda")), torch.stack(expected))


def test_a_generator_stays_where_it_fits_and_seeds_another_one_elsewhere() -> None:
    with emulated_device("cuda"):
        here = torch.Generator().manual_seed(3)
        assert generator_on("cpu", here) is here
        first, second = generator_on("cuda", here), generator_on("cuda", here)
        assert first.device.type == "cuda" and first.initial_seed() != second.initial_seed()
        again = generator_on("cuda", torch.Generator().manual_seed(3))
        assert again.initial_seed() == first.initial_seed()
