from pathlib import Path
from typing import NoReturn

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from worldmodels.errors import UserError
from worldmodels.runs import checkpoint as module
from worldmodels.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    with_prefix,
)

HINT = "do it again"


def test_a_round_trip_gives_back_every_tensor_and_all_metadata(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    weight = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "w": weight,
        "tied": weight,  # shares its memory, which safetensors refuses
        "transposed": weight.T,
        "scalar": torch.tensor(7, dtype=torch.int64),
        "flag": torch.tensor(True),
        "gradient": torch.ones(2, requires_grad=True),
    }
    save_checkpoint(path, tensors, {"levels": (8, 6), "none": None, "inf": float("inf")})
    loaded = load_checkpoint(path, hint=HINT)
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)
    assert loaded.metadata == {"levels": [8, 6], "none": None, "inf": float("inf")}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


def test_part_is_the_inverse_of_a_prefix_and_takes_no_look_alike() -> None:
    parts = {"a": {"x": torch.ones(1)}, "ab": {"x": torch.zeros(1)}, "b": {"a.x": torch.ones(2)}}
    whole: dict[str, torch.Tensor] = {}
    for prefix, tensors in parts.items():
        whole |= with_prefix(prefix, tensors)
    assert len(whole) == 3
    for prefix, tensors in parts.items():
        assert Checkpoint(whole, {}).part(prefix) == tensors


def test_a_missing_or_broken_file_is_named_with_its_hint(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"no file .*a\.safetensors: do it again"):
        load_checkpoint(path, hint=HINT)
    save_checkpoint(path, {"w": torch.ones(1000)}, {})
    whole = path.read_bytes()
    broken = {
        "empty": b"",
        "cut header": whole[:40],
        "cut": whole[:-1],
        "garbage": b"\x07" * 500,
        "a number only": (1000).to_bytes(8, "little"),
    }
    for content in broken.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*a\.safetensors \(.*\): do it again"):
            load_checkpoint(path, hint=HINT)


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"w": torch.ones(2)}, path, metadata=metadata)
        with pytest.raises(UserError, match=r"foreign\.safetensors was not written by worldmodels"):
            load_checkpoint(path, hint=HINT)


def test_a_failing_write_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(2)}, {"old": True})

    def fail(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> NoReturn:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"w": torch.zeros(2)}, {"old": False})
    assert load_checkpoint(path, hint=HINT).metadata == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_weights_that_do_not_fit_are_a_users_error(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"b\.safetensors does not fit its own config .*bias"):
        load_weights(module, {"weight": torch.zeros(2, 2)}, tmp_path / "b.safetensors")
