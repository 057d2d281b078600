"""The emulated GPU refuses what a real one refuses, and computes what the CPU computes."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.emulated_device import emulated_device
from worldmodels.device import choose_device


@pytest.fixture(params=["cuda", "mps"])
def device(request):
    with emulated_device(request.param):
        yield request.param


def numbers(device="cpu"):
    return torch.tensor([1.5, -2.0, 3.0], device=device)


MIXES = {
    "addition": lambda here, there: here + there,
    "in place": lambda here, there: here.mul_(there),
    "where": lambda here, there: torch.where(here > 0, here, there),
    "stack": lambda here, there: torch.stack([here, there]),
    "stack of scalars": lambda here, there: torch.stack([here[0], there[0]]),
    "matmul": lambda here, there: here @ there,
    "embedding": lambda here, there: nn.functional.embedding(there.long(), here[:, None]),
    "gather": lambda here, there: here.gather(0, torch.tensor([0])),
    "index_select": lambda here, there: here.index_select(0, torch.tensor([0])),
    "index_copy": lambda here, there: here.index_copy(0, here[:1].long() * 0, there[:1]),
    "masked_fill": lambda here, there: here.masked_fill(there > 0, 0.0),
    "bucketize": lambda here, there: torch.searchsorted(here, there),
    "into a scalar": lambda here, there: there[0].add_(here[0]),
    "assignment": lambda here, there: here.__setitem__(slice(0, 1), there[:1]),
    "loss": lambda here, there: nn.functional.mse_loss(here, there),
    "layer": lambda here, there: nn.Linear(3, 2)(here),
}


@pytest.mark.parametrize("name", MIXES)
def test_tensors_of_two_devices_do_not_mix(device, name):
    with pytest.raises(RuntimeError, match=f"found at least two devices, {device}:0 and cpu!"):
        MIXES[name](numbers(device), numbers())


def test_a_cpu_scalar_joins_the_device_s_tensors(device):
    assert torch.equal((numbers(device) * torch.tensor(2.0)).cpu(), numbers() * 2.0)
    assert (numbers(device) * torch.tensor(2.0)).device == torch.device(device, 0)


@pytest.mark.parametrize("index", [torch.tensor([0, 2]), torch.tensor([True, False, True])])
def test_an_index_or_mask_of_the_device_is_refused_by_cpu_tensors_alone(device, index):
    expected = numbers()[index]
    assert torch.equal(numbers(device)[index].cpu(), expected)
    assert torch.equal(numbers(device)[index.to(device)].cpu(), expected)
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        numbers()[index.to(device)]
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        numbers()[index.to(device)] = 0.0


def test_a_generator_has_to_be_on_the_device_it_draws_for(device):
    with pytest.raises(RuntimeError, match=f"Expected a '{device}' device type for generator"):
        torch.rand(2, generator=torch.Generator(), device=device)
    with pytest.raises(RuntimeError, match="Expected a 'cpu' device type for generator"):
        torch.rand(2, generator=torch.Generator(device))
    with pytest.raises(RuntimeError, match=f"Expected a '{device}' device type for generator"):
        torch.multinomial(torch.ones(3, device=device), 1, generator=torch.Generator())
    drawn = [
        torch.rand(2, generator=torch.Generator(where).manual_seed(3), device=where).cpu()
        for where in ("cpu", device)
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("convert", [torch.Tensor.numpy, np.asarray, lambda t: np.stack([t])])
def test_numpy_takes_no_tensor_of_the_device(device, convert):
    with pytest.raises(TypeError, match=f"can't convert {device}:0 device type tensor to numpy"):
        convert(numbers(device))
    assert convert(numbers(device).cpu()).ravel().tolist() == [1.5, -2.0, 3.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda device: numbers(device).double(),
        lambda device: numbers().double().to(device),
        lambda device: torch.zeros(2, dtype=torch.float64, device=device),
        lambda device: torch.as_tensor(np.ones(2), device=device),
        lambda device: numbers(device).to(torch.float64),
    ],
)
def test_float64_is_refused_on_the_device(device, make):
    with pytest.raises(TypeError, match=f"{device}:0 has no float64"):
        make(device)


def test_a_move_is_a_copy_and_lets_gradients_through(device):
    first = numbers().requires_grad_()
    moved = first.to(device)
    assert moved.device == torch.device(device, 0) and moved.to(device) is moved
    (moved * moved).sum().backward()
    assert torch.equal(first.grad, 2 * numbers()) and first.grad.device.type == "cpu"
    with torch.no_grad():
        moved.zero_()
    assert torch.equal(first.detach(), numbers())
    assert moved.is_cuda == (device == "cuda") and not moved.is_cpu
    (gradient,) = torch.autograd.grad(moved.square().sum() + first.sum(), first)
    assert torch.equal(gradient, torch.ones(3))


def trained(device):
    """A recurrent net after a few steps, and what it computes."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"in": nn.Linear(3, 4), "drop": nn.Dropout(0.5), "out": nn.Linear(2, 1)})
    parameter = nn.Parameter(0.1 * torch.randn(8, 4))
    net.register_parameter("recurrent", parameter)
    net.to(device)
    assert net.recurrent is parameter and parameter.device.type == device
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for step in range(3):
        x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(step)).to(device)
        torch.manual_seed(step)
        x = net["drop"](net["in"](x))
        zeros, bias = x.new_zeros(1, 2, 2), x.new_zeros(8)
        hidden = x.new_zeros(8, 2)
        outputs, _, _ = torch.lstm(
            x, [zeros, zeros], [net.recurrent, hidden, bias, bias], True, 1, 0.0, True, False, True
        )
        loss = net["out"](outputs).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
    return net, optimizer, loss


def test_training_gives_the_cpu_s_bits(device):
    net, optimizer, loss = trained(device)
    on_cpu, cpu_optimizer, cpu_loss = trained("cpu")
    assert loss.item() == cpu_loss.item()
    for name, weight in on_cpu.state_dict().items():
        assert net.state_dict()[name].device.type == device
        assert torch.equal(net.state_dict()[name].cpu(), weight)
    state = optimizer.state_dict()["state"][0]
    assert state["step"].device.type == "cpu" and state["exp_avg"].device.type == device
    assert torch.equal(state["exp_avg"].cpu(), cpu_optimizer.state_dict()["state"][0]["exp_avg"])


def test_models_are_copied_saved_loaded_and_moved_back(device, tmp_path):
    net, optimizer, _ = trained(device)
    twin = copy.deepcopy(net)
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in twin.parameters())
    with torch.no_grad():
        twin.recurrent.zero_()
    assert net.recurrent.abs().sum() > 0
    save_file({name: weight.cpu() for name, weight in net.state_dict().items()}, tmp_path / "file")
    loaded = load_file(tmp_path / "file", device=device)
    assert {weight.device.type for weight in loaded.values()} == {device}
    twin.load_state_dict({name: weight.cpu() for name, weight in loaded.items()})
    assert torch.equal(twin.recurrent, net.recurrent)
    again = torch.optim.Adam(twin.parameters())
    again.load_state_dict(optimizer.state_dict())
    assert again.state_dict()["state"][0]["exp_avg"].device.type == device
    parameter = twin.recurrent
    twin.cpu()
    assert twin.recurrent is parameter and parameter.device.type == "cpu"
    assert torch.equal(parameter.detach(), net.recurrent.detach().cpu())


def test_the_device_has_a_global_generator_of_its_own(device):
    module = getattr(torch, device)
    torch.manual_seed(5)
    first = torch.rand(3, device=device).cpu()
    assert torch.equal(torch.rand(3), first)  # undisturbed, and seeded by the same call
    module.manual_seed(5)
    assert torch.equal(torch.rand_like(numbers(device)).cpu(), first)
    state = module.get_rng_state()
    second = nn.functional.dropout(numbers(device)).cpu()
    module.set_rng_state(state)
    assert torch.equal(nn.functional.dropout(numbers(device)).cpu(), second)


def test_the_machine_offers_the_device_while_it_is_emulated(device):
    assert choose_device("auto") == choose_device(device) == device
    assert torch.Generator(device).device.type == device


def test_no_device_is_left_behind():
    before = torch.Generator
    with emulated_device("cuda"):
        assert choose_device("auto") == "cuda"
    assert choose_device("auto") == "cpu" or torch.cuda.is_available()
    assert torch.Generator is before
