"""Calls of torch that the emulated GPU treats in a way of their own.

Each handler takes the mode, the function that was called, and its arguments.
"""

from collections.abc import Callable
from typing import Any

import torch

from tests.device_tensor import CPU, DeviceTensor, moved, place_of, put_on_device, tensors_in

Handler = Callable[[Any, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def _to(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, *rest = args
    if rest and isinstance(rest[0], torch.Tensor):
        rest = [rest[0].device, rest[0].dtype, *rest[1:]]
    options = {name: value for name, value in kwargs.items() if name != "copy"}
    device, dtype, _, _ = torch._C._nn._parse_to(*rest, **options)
    on_device = isinstance(tensor, DeviceTensor)
    cast = func(tensor, dtype or tensor.dtype, copy=kwargs.get("copy", False))
    if on_device and cast is not tensor:
        put_on_device(cast)
    return moved(cast, device)


def _as_tensor(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """`torch.tensor` and `torch.as_tensor` bring their data to the device asked for."""
    data, device = args[0], kwargs.get("device")
    if device is None:
        device = data.device if isinstance(data, torch.Tensor) else CPU
    made = func(*args, **{**kwargs, "device": "cpu"})
    return made if place_of(device) == CPU else put_on_device(made)


def _between_devices(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A function that takes tensors of two devices."""
    return func(*args, **kwargs)


def _set_data(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """A parameter whose data come from another device moves there and stays the same object."""
    tensor, data = args
    func(tensor, data)
    if isinstance(data, DeviceTensor):
        put_on_device(tensor)
    elif isinstance(tensor, DeviceTensor):
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        tensor.__class__ = torch.nn.Parameter if is_parameter else torch.Tensor


def _get_item(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, index = args
    if isinstance(tensor, DeviceTensor):
        return mode.call(func, args, kwargs, on_device=True)  # CUDA takes an index on the CPU
    _refuse_device_index(index)
    return func(tensor, index)


def _set_item(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """Differs: a value of another device, which some assignments would copy, is refused."""
    tensor, index, value = args
    if not isinstance(tensor, DeviceTensor):
        _refuse_device_index(index)
    mode.check_together(func, (tensor, value), {})
    return func(tensor, index, value)


def _refuse_device_index(index: Any) -> None:
    if any(isinstance(part, DeviceTensor) for part, _ in tensors_in(index)):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )


def _numpy(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    if isinstance(args[0], DeviceTensor):
        raise TypeError(
            f"can't convert {DeviceTensor.place} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return func(*args, **kwargs)


def _deep_copy(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    tensor, memo = args
    if not isinstance(tensor, DeviceTensor):
        return func(tensor, memo)
    if id(tensor) not in memo:
        copied = put_on_device(tensor.detach().clone())
        copied.__dict__.update(tensor.__dict__)
        memo[id(tensor)] = copied.requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]


def _lstm_cell(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """In the order of operations that `worldmodels.memory.lstm` has on the CPU."""
    mode.check_together(func, args, kwargs)
    inputs, (h, c), weight_input, weight_hidden, bias, bias_hidden = args
    gates = torch.addmm(bias + bias_hidden, inputs, weight_input.T)
    i, f, g, o = gates.addmm_(h, weight_hidden.T).chunk(4, -1)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    h = o.sigmoid() * c.tanh()
    return (put_on_device(h), put_on_device(c)) if isinstance(inputs, DeviceTensor) else (h, c)


def _grad(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
    outputs, inputs = args
    given = kwargs["grad_outputs"] or [None] * len(outputs)
    starts = tuple(
        torch.ones_like(output) if start is None else start
        for output, start in zip(outputs, given, strict=True)
    )
    run, create = torch.autograd.graph._engine_run_backward, bool(kwargs["create_graph"])
    retain = create if kwargs["retain_graph"] is None else kwargs["retain_graph"]
    options = {"allow_unreachable": kwargs["allow_unused"] or False, "accumulate_grad": False}
    gradients = mode.differentiate(
        lambda: run(tuple(outputs), starts, retain, create, tuple(inputs), **options)
    )
    for leaf, gradient in zip(inputs, gradients, strict=True):
        if isinstance(leaf, DeviceTensor) and gradient is not None:
            put_on_device(gradient)
    return gradients


def _backward(mode: Any, func: Any, args: Any, kwargs: Any) -> None:
    options = {**kwargs, "grad_tensors": kwargs["gradient"]}
    del options["gradient"]
    mode.differentiate(lambda: torch.autograd.backward(args[0], **options))


SPECIAL: dict[Callable[..., Any], Handler] = {
    torch.Tensor.to: _to,
    torch.Tensor.cpu: lambda mode, func, args, kwargs: moved(args[0], CPU),
    torch.Tensor.cuda: lambda mode, func, args, kwargs: moved(args[0], "cuda"),
    torch.tensor: _as_tensor,
    torch.as_tensor: _as_tensor,
    torch.Tensor.copy_: _between_devices,
    torch._has_compatible_shallow_copy_type: _between_devices,
    torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    torch.Tensor.__getitem__: _get_item,
    torch.Tensor.__setitem__: _set_item,
    torch.Tensor.numpy: _numpy,
    torch.Tensor.__array__: _numpy,
    torch.Tensor.__deepcopy__: _deep_copy,
    torch.lstm_cell: _lstm_cell,
    torch.autograd.grad: _grad,
    torch.Tensor.backward: _backward,
}
