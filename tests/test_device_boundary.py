"""Every stage on a device: the emulated GPU here, and a real one where there is one (`-m gpu`)."""

import contextlib
import inspect
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
from matplotlib.figure import Figure

from tests.device_drives import DRIVES, controller_drive
from tests.emulated_device import emulated_device
from worldmodels import training


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
        (tensors, figures), (expected_tensors, expected_figures) = found, expected
        assert tensors.keys() == expected_tensors.keys()
        for name, tensor in tensors.items():
            assert tensor.shape == expected_tensors[name].shape, name
            assert not self.exact or torch.equal(tensor, expected_tensors[name]), name
        assert figures.keys() == expected_figures.keys()
        assert not self.exact or figures == expected_figures


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def place(request):
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        yield Place("cuda", exact=False)
    else:
        with emulated_device("cuda"):
            yield Place("cuda", exact=True)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    """Curves are not drawn, which would take half of the time; pictures of frames are."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())


@pytest.mark.parametrize("name", DRIVES)
def test_a_stage_gives_on_a_device_what_it_gives_on_the_cpu(name, place, tmp_path):
    found = DRIVES[name](tmp_path / "device", place.name)
    place.check_same(found, DRIVES[name](tmp_path / "cpu", "cpu"))


@pytest.mark.parametrize("name", ["V: VQ", "M: latents", "prior", "C: pathwise", "C: PPO"])
def test_the_same_holds_on_the_other_kind_of_gpu(name, tmp_path):
    with emulated_device("mps"):
        found = DRIVES[name](tmp_path / "device", "mps")
    Place("mps", exact=True).check_same(found, DRIVES[name](tmp_path / "cpu", "cpu"))


def test_noisy_dreams_of_evolution_draw_on_the_device(place, tmp_path):
    drive = controller_drive("box", 2, search="evolution", temperature=1.3)
    first, second = (drive(tmp_path / name, place.name)[1] for name in ("first", "second"))
    assert first == second and math.isfinite(first["fitness"])


@contextlib.contextmanager
def ctrl_c_in(step):
    """Ctrl-C comes while the training step of this number, counted from 0, is under way."""
    train_step = training._train_step
    names = list(inspect.signature(train_step).parameters)

    def interrupted(*args, **options):
        if {**dict(zip(names, args, strict=False)), **options}["step"] == step:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(*args, **options)

    with mock.patch.object(training, "_train_step", interrupted):
        yield


@pytest.mark.parametrize(
    "name",
    [
        "V: VQ",
        "V: straight-through",
        "M: latents",
        "M: codes, two members",
        "prior",
        "C: pathwise",
        "C: PPO",
    ],
)
def test_a_training_stopped_on_a_device_resumes_to_the_same_bits(name, place, tmp_path):
    undisturbed = DRIVES[name](tmp_path / "undisturbed", place.name)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt, match=r"^$"), ctrl_c_in(7):
        DRIVES[name](folder, place.name)
    assert len(list(folder.rglob("resume.safetensors"))) == 1
    torch.manual_seed(99)  # what the global generators hold must not matter
    place.check_same(DRIVES[name](folder, place.name), undisturbed)
