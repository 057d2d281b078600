"""An emulated GPU, so that the code for one is tested on machines without any.

A tensor on the emulated device holds ordinary CPU data and carries its place in its type,
`DeviceTensor`. While `emulated_device` is in force, every call of torch from Python goes through
a function mode, which

- raises torch's own errors where tensors of two devices meet, where an index or a mask of the
  device meets a CPU tensor, where a generator does not fit, and where NumPy is given a tensor of
  the device;
- refuses float64 on the device, as MPS does;
- gives the device a global generator of its own, which `torch.manual_seed` seeds as well.

The arithmetic is the CPU's, and a seed gives the same random numbers on both devices. What is
computed on the emulated device is therefore equal to the CPU's result, bit for bit.

A tensor class with a `__torch_dispatch__` of its own would see every kernel, those of backward
passes included. But a CPU build of torch aborts where autograd meets a tensor that reports CUDA.
Here autograd is torch's own, and what Python code does inside of a backward pass is not checked.
"""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

from tests.device_calls import SPECIAL
from tests.device_tensor import (
    CPU,
    DeviceGenerator,
    DeviceTensor,
    place_of,
    put_on_device,
    tensors_in,
)

PROPERTIES = {"total_memory": 8 * 2**30}
# The name of a function that draws random numbers contains one of these.
RANDOM = ("rand", "normal", "uniform", "dropout", "multinomial", "bernoulli", "exponential")


class EmulatedDevice(TorchFunctionMode):
    """Handles every call of torch while it is entered.

    Attributes:
        generator: the device's global one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = DeviceGenerator(DeviceTensor.place)
        self._in_backward = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if name != "pin_memory"}
        if kwargs.get("device") == torch.device("meta"):  # shapes without content, on no machine
            return func(*args, **kwargs)
        handler = SPECIAL.get(func)
        if handler is not None:
            return handler(self, func, args, kwargs)
        self.check_together(func, args, kwargs)
        if kwargs.get("device") is not None:
            on_device = place_of(kwargs["device"]) != CPU
            kwargs = {**kwargs, "device": "cpu"}
        else:
            on_device = any(isinstance(t, DeviceTensor) for t, _ in tensors_in((args, kwargs)))
        return self.call(func, args, kwargs, on_device)

    def call(self, func: Callable[..., Any], args: Any, kwargs: Any, on_device: bool) -> Any:
        """The function's result on the chosen device, drawn from a generator that fits."""
        generator = kwargs.get("generator")
        place = DeviceTensor.place if on_device else CPU
        if generator is not None and generator.device.type != place.type:
            raise RuntimeError(
                f"Expected a '{place.type}' device type for generator but found "
                f"'{generator.device.type}'"
            )
        if not on_device:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        draws = generator is None and any(part in name for part in RANDOM)
        with _drawing_from(self.generator) if draws else contextlib.nullcontext():
            result = func(*args, **kwargs)
        given = {id(tensor) for tensor, _ in tensors_in((args, kwargs))}
        for tensor, _ in tensors_in(result):
            if id(tensor) not in given:
                put_on_device(tensor)
        return result

    def check_together(self, func: Callable[..., Any], args: Any, kwargs: Any) -> None:
        """Raise where tensors of two devices meet; a CPU scalar may join the device's."""
        given = [part for value in (*args, *kwargs.values()) for part in tensors_in(value)]
        if self._in_backward or not any(isinstance(tensor, DeviceTensor) for tensor, _ in given):
            return
        name = getattr(func, "__name__", str(func))
        writes = name.endswith("_") and not name.endswith("__")
        for number, (tensor, nested) in enumerate(given):
            joins = tensor.dim() == 0 and not nested and not (writes and number == 0)
            if not isinstance(tensor, DeviceTensor) and not joins:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, {DeviceTensor.place} and cpu! (in {name})"
                )

    def differentiate(self, run: Callable[[], Any]) -> Any:
        """What `run` gives; Python code of a backward pass goes through this mode unchecked."""
        outer, self._in_backward = self._in_backward, True
        try:
            with self:
                return run()
        finally:
            self._in_backward = outer


@contextlib.contextmanager
def emulated_device(kind: str = "cuda") -> Iterator[str]:
    """A machine with one emulated GPU of that kind, "cuda" or "mps"; yields the kind."""
    with contextlib.ExitStack() as stack:
        place = torch.device(kind, 0)
        stack.enter_context(mock.patch.object(DeviceTensor, "place", place))
        mode = EmulatedDevice()
        for owner, name, value in _machine(kind, mode.generator):
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mode)
        yield kind


def _machine(kind: str, generator: DeviceGenerator) -> list[tuple[Any, str, Any]]:
    """What torch reports of such a machine: owner, attribute and value."""
    module = torch.cuda if kind == "cuda" else torch.mps
    seed_all = [(torch.cuda, "manual_seed_all", generator.manual_seed)] if kind == "cuda" else []
    return [
        (torch, "Generator", DeviceGenerator),
        (torch.cuda, "is_available", lambda: kind == "cuda"),
        (torch.backends.mps, "is_available", lambda: kind == "mps"),
        (torch.cuda, "get_device_name", lambda device=None: "emulated device"),
        (torch.cuda, "get_device_properties", lambda device=None: SimpleNamespace(**PROPERTIES)),
        (torch.cuda, "current_device", lambda: 0),
        (module, "device_count", lambda: 1),
        (module, "manual_seed", generator.manual_seed),
        *seed_all,
        (module, "get_rng_state", lambda device=kind: generator.get_state()),
        (module, "set_rng_state", lambda state, device=kind: generator.set_state(state)),
    ]


@contextlib.contextmanager
def _drawing_from(generator: DeviceGenerator) -> Iterator[None]:
    """A function that takes no generator draws from this one, not from the CPU's global one."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)
