"""Every stage on a device: the emulated GPU here, and a real one where there is one (`-m gpu`)."""

from dataclasses import dataclass

import pytest
import torch

from tests.device_drives import DRIVES
from tests.emulated_device import emulated_device


@dataclass(frozen=True)
class Place:
    """A device to drive stages on.

    Attributes:
        exact: whether its results are the CPU's, bit for bit.
    """

    name: str
    exact: bool

    def check_same(self, found, expected):
        """Assert that outcomes are equal, or at least alike in what they consist of."""
        (tensors, figures), (on_cpu, cpu_figures) = found, expected
        assert tensors.keys() == on_cpu.keys() and figures.keys() == cpu_figures.keys()
        for name, tensor in tensors.items():
            assert tensor.shape == on_cpu[name].shape, name
            assert not self.exact or torch.equal(tensor, on_cpu[name]), name
        assert not self.exact or figures == cpu_figures


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def place(request):
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        yield Place("cuda", exact=False)
    else:
        with emulated_device("cuda"):
            yield Place("cuda", exact=True)


@pytest.mark.parametrize("name", DRIVES)
def test_a_stage_gives_on_a_device_what_it_gives_on_the_cpu(name, place, tmp_path):
    drive = DRIVES[name]
    found = drive(tmp_path / "device", place.name)
    place.check_same(found, drive(tmp_path / "cpu", "cpu"))
