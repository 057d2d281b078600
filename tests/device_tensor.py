"""Tensors and generators of the emulated GPU; see `tests.emulated_device`."""

from collections.abc import Iterator
from typing import Any

import torch

CPU = torch.device("cpu")
RealGenerator = torch.Generator


class DeviceTensor(torch.Tensor):
    """A tensor on the emulated device: ordinary data, its place carried in the type."""

    place = torch.device("cuda", 0)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:
        return self.place

    @property
    def is_cuda(self) -> bool:
        return self.place.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return False


class DeviceGenerator(RealGenerator):
    """A generator of either device; a seed gives the same numbers on both."""

    def __new__(cls, device: torch.device | str = "cpu") -> "DeviceGenerator":
        return super().__new__(cls, "cpu")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._place = place_of(device)

    @property
    def device(self) -> torch.device:
        return self._place

    def manual_seed(self, seed: int) -> "DeviceGenerator":
        super().manual_seed(seed)
        return self


def place_of(device: torch.device | str | int) -> torch.device:
    """A device as tensors report it; raises for one that the machine lacks."""
    wanted = torch.device(device)
    if wanted.type not in ("cpu", DeviceTensor.place.type):
        raise AssertionError(f"expected cpu or {DeviceTensor.place.type}, got {wanted}")
    return CPU if wanted.type == "cpu" else DeviceTensor.place


def put_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """The same tensor, from now on a tensor of the device."""
    if tensor.dtype in (torch.float64, torch.complex128):
        raise TypeError(f"{DeviceTensor.place} has no float64, as MPS has none")
    if type(tensor) is torch.nn.Parameter:
        tensor._is_param = True  # what `isinstance(tensor, torch.nn.Parameter)` asks for
    tensor.__class__ = DeviceTensor
    return tensor


def moved(tensor: torch.Tensor, device: torch.device | str | int | None) -> torch.Tensor:
    """The tensor on that device; a move is a copy, as it is between real devices."""
    if device is None or place_of(device) == tensor.device:
        return tensor
    copied = tensor.clone()
    return copied if place_of(device) == CPU else put_on_device(copied)


def tensors_in(values: Any, nested: bool = False) -> Iterator[tuple[torch.Tensor, bool]]:
    """All tensors in arguments or results, and whether each is one of a list of several."""
    if isinstance(values, torch.Tensor):
        yield values, nested
    elif isinstance(values, (tuple, list)):
        if values and isinstance(values[0], (int, float)):
            return  # a shape, or a long list of numbers
        for value in values:
            yield from tensors_in(value, nested=True)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value, nested)
