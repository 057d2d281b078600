"""A file that was made to do harm is refused in one line, before it takes much memory."""

import io
import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard

from tests.fixtures.tiny_models import rollout
from tests.fixtures.tiny_run import tiny_run
from worldmodels import load_agent
from worldmodels.controller.agent import with_present_names
from worldmodels.data.episode import MAX_FRAME_BYTES, pack_episode
from worldmodels.data.store import EpisodeStore
from worldmodels.dream.load import load_world_model
from worldmodels.errors import UserError
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.runs.pretrained import pretrained_agents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    made = EpisodeStore(tmp_path / "run" / "episodes")
    made.add(0, rollout(4))
    return made


def forge(store: EpisodeStore, **changes: Any) -> Path:
    """Rewrite episode 0 with other members, so that all checksums are right."""
    path = store.episodes[0].path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    metadata = {**json.loads(members["meta.json"]), **changes.pop("metadata", {})}
    members = {**members, "meta.json": json.dumps(metadata).encode()}
    members.update({f"{name}.npy": content for name, content in changes.items()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    store.refresh()
    return path


def header(shape: tuple[int, ...], kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, metadata)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


@pytest.mark.parametrize("name", ["actions", "rewards", "frames"])
def test_a_header_that_claims_any_size_takes_no_memory(store: EpisodeStore, name: str) -> None:
    with zipfile.ZipFile(store.episodes[0].path) as archive:
        content = archive.read(f"{name}.npy")[len(header((4,), "<f4")) :]
    forge(store, **{name: header((10**14,), "<f4") + content})
    lines: list[str] = []
    with pytest.raises(UserError, match=r"episode-000000\.npz is not a whole episode"):
        store.episodes[0].load()
    store.repair(lines.append)  # as "wm collect" begins
    assert len(lines) == 1 and "damaged" in lines[0] and not store.episodes


def test_frames_that_decompress_to_more_than_an_episode_are_refused(store: EpisodeStore) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(2**28))
    path = forge(store, frames=npy(np.frombuffer(bomb, np.uint8)))
    assert path.stat().st_size < 30_000
    with pytest.raises(UserError, match="not a whole episode"):
        store.episodes[0].load()


def test_facts_that_claim_a_large_episode_are_refused_before_they_are_believed(
    store: EpisodeStore,
) -> None:
    side = 2**14
    forge(store, metadata={"frame_shape": [side, side, 3]})
    with pytest.raises(UserError, match="536,870,912 bytes"):
        _ = store.episodes


def test_an_episode_that_could_not_be_read_again_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worldmodels.data.episode.MAX_FRAME_BYTES", 64 * 64 * 3 * 4)
    with pytest.raises(UserError, match="shorten episodes with --max-steps"):
        pack_episode(rollout(4))
    assert MAX_FRAME_BYTES == 2**29 and pack_episode(rollout(3)).content


READ = """
import sys
from pathlib import Path
from worldmodels.data.store import EpisodeStore

def peak():  # in bytes; getrusage would give that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

store = EpisodeStore(Path(sys.argv[1]))
before = peak()
rollout = store.episodes[0].load()
print((peak() - before) / rollout.frames.nbytes)
"""


def test_reading_an_episode_takes_little_beside_its_frames(store: EpisodeStore) -> None:
    # Black frames: a file of kilobytes. Read at once, they were there twice.
    steps = 8_000
    black = np.zeros((steps + 1, 64, 64, 3), np.uint8)
    store.add(0, rollout(steps, frames=black))
    command = [sys.executable, "-c", READ, str(store.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < 1.3


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("vision", "channels", 10**6),
        ("vision", "decoder_channels", 10**6),
        ("vision", "num_latents", 10**9),
        ("memory", "num_hidden", 10**6),
        ("memory", "num_hidden", "many"),
        ("memory", "num_mixtures", 10**9),
        ("memory", "num_mixtures", None),
    ],
)
def test_sizes_in_a_config_are_compared_with_the_weights_first(
    tmp_path: Path, part: str, name: str, value: int | str | None
) -> None:
    run = tiny_run(tmp_path / "run")
    path = run.weights(part)
    saved = load_checkpoint(path, hint="none")
    saved.metadata[part]["config"][name] = value
    save_checkpoint(path, saved.tensors, saved.metadata)
    refuse_within_memory(lambda: load_world_model(run), path)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("vision", "levels", [21_845, 3]),
        ("vision", "levels", [1_000] * 5),
        ("memory", "digit_sizes", [2**20]),
        ("memory", "num_codes", 10**9),
        ("memory", "head_width", 10**9),
    ],
)
def test_sizes_of_codes_are_compared_too(
    tmp_path: Path, part: str, name: str, value: int | list[int]
) -> None:
    run = tiny_run(tmp_path / "run", "fsq")
    path = run.weights(part)
    saved = load_checkpoint(path, hint="none")
    saved.metadata[part]["config"][name] = value
    save_checkpoint(path, saved.tensors, saved.metadata)
    refuse_within_memory(lambda: load_world_model(run), None)


@pytest.mark.parametrize("members", [10**9, 0, "x", None])
def test_the_number_of_members_is_compared_with_the_weights(
    tmp_path: Path, members: int | str | None
) -> None:
    run = tiny_run(tmp_path / "run", ensemble_size=2)
    path = run.weights("memory")
    saved = load_checkpoint(path, hint="none")
    saved.metadata["memory"]["ensemble_size"] = members
    save_checkpoint(path, saved.tensors, saved.metadata)
    refuse_within_memory(lambda: load_world_model(run), path)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("controller",), None),
        (("controller", "num_features"), 10**12),
        (("controller", "hidden"), 10**9),
        (("spec", "view", "size"), 10**6),
        (("spec", "action_map", "low"), []),
        (("spec",), "x"),
        (("vision", "kind"), "x"),
        (("memory",), []),
    ],
)
def test_an_agent_whose_parts_do_not_fit_is_named(
    tmp_path: Path, keys: tuple[str, ...], value: int | str | list[Any] | None
) -> None:
    saved = load_checkpoint(pretrained_agents()["carracing"], hint="none")
    saved = replace(saved, metadata=with_present_names(saved.metadata))
    metadata = saved.metadata
    for key in keys[:-1]:
        metadata = metadata[key]
    metadata[keys[-1]] = value
    path = tmp_path / "agent.safetensors"
    save_checkpoint(path, saved.tensors, saved.metadata)
    refuse_within_memory(lambda: load_agent(path), path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": ' * 100_000])
def test_metadata_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "agent.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"worldmodels": text})
    with pytest.raises(UserError, match=r"cannot read .*agent\.safetensors"):
        load_agent(path)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_changed_bit_in_the_weights_is_noticed(tmp_path: Path, place: float) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, {"w": torch.arange(1000.0)}, {"a": 1})
    content = bytearray(path.read_bytes())
    content[-1 - int(3_000 * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged: its checksum differs"):
        load_checkpoint(path, hint="none")


def refuse_within_memory(read: Callable[[], object], path: Path | None) -> None:
    """Assert that `read` fails with one line that names the file, within 256 MiB of memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        with pytest.raises(UserError) as refusal:
            read()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    message = str(refusal.value)
    assert "\n" not in message and "allocate" not in message and "MemoryError" not in message
    assert path is None or str(path) in message
