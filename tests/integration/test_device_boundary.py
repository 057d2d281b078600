"""Every stage computes on a GPU: on the emulated GPU, and with `-m gpu` on a real GPU."""

import contextlib
import functools
import inspect
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from agents.workers import Workers
from scripts.experiments.quantized import measures
from tests.fixtures.device_cases import CASES, Outcome, controller_case
from tests.fixtures.device_runs import FIT, agent_run, run_with_prior
from tests.fixtures.emulated_device import emulated_device
from tests.fixtures.tiny_models import frames, rollout, vqvae
from tests.fixtures.tiny_run import tiny_run
from worldmodels.controller import agent
from worldmodels.controller.agent import Agent
from worldmodels.dream.load import encode_recent, load_world_model
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import roll_out
from worldmodels.dream.starts import real_states
from worldmodels.dream.support import Support
from worldmodels.memory.training import MemoryModelConfig, MemoryStageConfig, new_memory
from worldmodels.prior.surprise import load_surprise
from worldmodels.progress import Report
from worldmodels.runs import checkpoint
from worldmodels.stages import dream_check
from worldmodels.training import fit as training
from worldmodels.training.device import device_of
from worldmodels.training.fit import optimizer_tensors, restore_optimizer
from worldmodels.training.model import Model


@dataclass(frozen=True)
class Place:
    """A device on which stages run.

    Attributes:
        exact: whether results on the device equal results on the CPU, bit for bit.
    """

    name: str
    exact: bool

    def check_same(self, found: Outcome, expected: Outcome) -> None:
        """Assert that outcomes have equal names and shapes and, if `exact`, equal values."""
        (tensors, figures), (expected_tensors, expected_figures) = found, expected
        assert tensors.keys() == expected_tensors.keys()
        for name, tensor in tensors.items():
            assert tensor.shape == expected_tensors[name].shape, name
            assert not self.exact or torch.equal(tensor, expected_tensors[name]), name
        assert figures.keys() == expected_figures.keys()
        assert not self.exact or figures == expected_figures


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "real":
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        yield Place("cuda", exact=False)
    else:
        with emulated_device("cuda"):
            yield Place("cuda", exact=True)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save curves as empty files, because drawing them would take half of the time."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: Path(path).touch())


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Return a function that computes the outcome of a case on the CPU, once per case."""
    return functools.cache(lambda name: CASES[name](tmp_path_factory.mktemp("cpu") / "run", "cpu"))


@pytest.fixture
def expected(name: str, on_cpu: Callable[[str], Outcome]) -> Outcome:
    """Return the outcome of the test's case on the CPU.

    A test names this fixture before `place`, so that the emulated device is not yet active.
    """
    return on_cpu(name)


@pytest.mark.parametrize("name", CASES)
def test_a_stage_gives_on_a_device_what_it_gives_on_the_cpu(
    name: str, expected: Outcome, place: Place, tmp_path: Path
) -> None:
    place.check_same(CASES[name](tmp_path / "run", place.name), expected)


@pytest.mark.parametrize("name", ["V: VQ", "M: latents", "prior", "C: pathwise", "C: PPO"])
def test_the_same_holds_on_the_other_kind_of_gpu(
    name: str, expected: Outcome, tmp_path: Path
) -> None:
    with emulated_device("mps"):
        found = CASES[name](tmp_path / "run", "mps")
    Place("mps", exact=True).check_same(found, expected)


def test_noisy_dreams_of_evolution_draw_on_the_device(place: Place, tmp_path: Path) -> None:
    drive = controller_case("box", 2, search="cmaes", temperature=1.3)
    first, second = (drive(tmp_path / name, place.name)[1] for name in ("first", "second"))
    assert first == second and math.isfinite(first["fitness"])


# The last model that each case trains is on the device. The last case trains M on the CPU before.
TRAININGS = ["V: FSQ", "M: codes", "prior", "C: pathwise", "C: PPO", "evaluate M: latents"]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_model_is_trained_on_the_device(name: str, place: Place, tmp_path: Path) -> None:
    """A model that stayed on the CPU would learn the same, so this test checks its device."""
    train_step, trained = training._train_step, []

    def recorded(model: Model, *args: Any, **options: Any) -> Any:
        trained.append({weight.device.type for weight in model.parameters()})
        return train_step(model, *args, **options)

    with mock.patch.object(training, "_train_step", recorded):
        CASES[name](tmp_path / "run", place.name)
    assert trained[-1] == {place.name}


def test_a_new_memory_is_made_on_the_cpu_whatever_the_device_of_v(place: Place) -> None:
    vision = vqvae("fsq").to(place.name)
    memory = new_memory(
        MemoryStageConfig(fit=FIT, later=FIT, model=MemoryModelConfig(num_hidden=4)), vision, 3
    )
    assert {tensor.device.type for tensor in memory.state_dict().values()} == {"cpu"}


@contextlib.contextmanager
def ctrl_c_in(step: int) -> Iterator[None]:
    """Send Ctrl-C during the training step with the number `step`, counted from 0."""
    train_step = training._train_step
    names = list(inspect.signature(train_step).parameters)

    def interrupted(*args: Any, **options: Any) -> Any:
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
def test_a_training_stopped_on_a_device_resumes_to_the_same_bits(
    name: str, expected: Outcome, place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match=r"^$"), ctrl_c_in(7):
        CASES[name](folder, place.name)
    assert len(list(folder.rglob("resume.safetensors"))) == 1
    torch.manual_seed(99)  # the state of the global generators must not matter
    place.check_same(CASES[name](folder, place.name), expected)


def test_a_checkpoint_of_a_device_s_tensors_is_written_from_the_cpu(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies that writing needs must not take memory of the device."""
    weights, written = torch.arange(3.0).to(place.name), {}

    def save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        written.update(tensors)
        path.touch()

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    checkpoint.save_checkpoint(tmp_path / "file.safetensors", {"weights": weights}, {})
    assert written["weights"].device.type == "cpu" and written["weights"].tolist() == [0, 1, 2]


def test_surprise_takes_frames_and_gives_figures_on_the_cpu(place: Place, tmp_path: Path) -> None:
    run = run_with_prior(tmp_path / "run", "cpu")
    expected, found = (
        load_surprise(run, device).surprise_and_error(frames(3)) for device in ("cpu", place.name)
    )
    for here, on_device in zip(expected, found, strict=True):
        assert on_device.device.type == "cpu" and torch.allclose(here, on_device, rtol=1e-3)
        assert not place.exact or torch.equal(here, on_device)


def test_a_resumed_optimizer_keeps_adam_s_step_counter_on_the_cpu(place: Place) -> None:
    """With the counter on the CPU, the optimizer's `step` does not wait for a kernel."""
    weight = torch.nn.Parameter(torch.ones(2, device=place.name))
    optimizer = torch.optim.Adam([weight])
    weight.square().sum().backward()
    optimizer.step()
    saved = {name: value.cpu() for name, value in optimizer_tensors(optimizer).items()}
    restored = torch.optim.Adam([weight])
    restore_optimizer(restored, saved)
    state = restored.state_dict()["state"][0]
    assert state["step"].device.type == "cpu" and state["exp_avg"].device.type == place.name
    assert torch.equal(state["exp_avg"].cpu(), saved["0.exp_avg"])


def test_a_run_s_agent_is_measured_on_the_device(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that stayed on the CPU would give the same figures, so this test checks the device."""
    run = agent_run(tmp_path / "run", "fsq", 1)
    stopped = mock.Mock(side_effect=StopIteration)
    monkeypatch.setattr(dream_check, "encode_recent", stopped)
    monkeypatch.setattr(measures, "drive", mock.Mock(side_effect=lambda seed, **_: rollout(8)))
    monkeypatch.setattr(measures, "open_loop", stopped)
    loaded = []

    def load_agent(folder: Path) -> Agent:
        loaded.append(agent.load_agent(folder))
        return loaded[-1]

    for module in (dream_check, measures):
        monkeypatch.setattr(module, "load_agent", load_agent)
    config, report = dream_check.DreamCheckConfig(), Report(quiet=True)
    with pytest.raises(StopIteration, match=r"^$"):
        dream_check.dream_check(run, config, workers=Workers(1), report=report, device=place.name)
    with pytest.raises(StopIteration, match=r"^$"):
        measures.world_measures(run, 1, report, tmp_path / "sheet.png", place.name)
    assert len(loaded) == 2
    for each in loaded:
        assert device_of(each.vision).type == device_of(each.memory).type == place.name


@pytest.mark.parametrize("kind", ["vae", "fsq"])
def test_what_is_computed_of_episodes_comes_back_to_the_cpu(
    kind: str, place: Place, tmp_path: Path
) -> None:
    run = tiny_run(tmp_path / "run", kind, ensemble_size=2)
    vision, memory = load_world_model(run, place.name)
    assert device_of(vision).type == device_of(memory).type == place.name
    sequences = encode_recent(run, vision, Report(quiet=True))
    states = real_states(vision, memory, sequences)
    support = Support.fit(vision, memory, sequences)
    rows = torch.tensor([0, 2])
    dreamed = roll_out(DreamModel(vision, memory), states.rows(rows), sequences.actions[rows])
    tensors = [sequences.posteriors, states.latent, *states.memory, states.weight, dreamed]
    tensors += [part for part in (support.low, support.high, support.noise) if part is not None]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
