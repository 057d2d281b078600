"""Make random numbers depend on a seed alone, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def global_seed(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators of the CPU and of `device`, and restore them after the block.

    Dropout and the quantizers use the global generator of the device on which they compute.
    `torch.manual_seed` is not used, because it would also seed the generators of all other devices,
    and these generators are not restored.
    """
    place = torch.device(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if place.type == "cpu":
            yield
            return
        module = getattr(torch, place.type)
        before = module.get_rng_state(place)
        module.manual_seed(seed)
        try:
            yield
        finally:
            module.set_rng_state(before, place)


def generator_on(device: torch.device | str, generator: torch.Generator) -> torch.Generator:
    """Return `generator` for the CPU, or a new generator on `device` that `generator` seeds."""
    if torch.device(device).type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator)
    return torch.Generator(device).manual_seed(int(seed))
