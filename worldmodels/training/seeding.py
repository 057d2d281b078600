"""Random numbers that depend on a seed alone, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def global_seed(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators of the CPU and of `device`; both are restored afterwards.

    Dropout and the quantizers draw from the generator of the device that they compute on.
    `torch.manual_seed` is not used, because it would also seed the generators of all other devices,
    which are not restored.
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
    """`generator` itself on the CPU; on another device, a new generator that `generator` seeds."""
    if torch.device(device).type == "cpu":
        return generator
    seed = torch.randint(2**62, (), generator=generator)
    return torch.Generator(device).manual_seed(int(seed))
