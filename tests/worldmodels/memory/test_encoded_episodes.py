"""Encoded episodes take few bytes, and give the same batches in memory and in a file."""

import os
import tracemalloc
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from tests.fixtures.tiny_models import codernn, mdnrnn, rollout, vae, vqvae
from tests.fixtures.tiny_run import tiny_run
from worldmodels.data.sequences import SequenceBatch
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.memory import MDNRNN, CodeRNN, encoding, part_size
from worldmodels.memory.encoded_episodes import EncodedEpisodes, record_type
from worldmodels.memory.encoding import Encodings, encode_dataset, encoded_bytes
from worldmodels.memory.metrics import held_out_metrics, score_memory
from worldmodels.memory.training import SequenceBatches
from worldmodels.presets import preset_named
from worldmodels.progress import PROCESS_BYTES, Report
from worldmodels.stages.evaluate_memory import train_memoryless
from worldmodels.stages.train_memory import train_memory
from worldmodels.vision import VAE, VQVAE
from worldmodels.vision.batched import encode_frames
from worldmodels.vision.digits import smallest_type

LENGTHS = (5, 8, 3, 9)  # env steps; two per agent step
FIELDS = ("posteriors", "actions", "rewards", "terminated", "mask")
KINDS = pytest.mark.parametrize("kind", ["vae", "fsq"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    store = EpisodeStore(tmp_path_factory.mktemp("episodes"))
    for index, length in enumerate(LENGTHS):
        ends = index == 2
        store.add(index, rollout(length, seed=index, terminated=ends, truncated=not ends))
    return store


def models(kind: str) -> tuple[VAE | VQVAE, MDNRNN | CodeRNN]:
    if kind == "vae":
        return vae().eval(), mdnrnn(predict_change=True).eval()
    vision = vqvae("fsq").eval()
    sizes, size = vision.config.digit_sizes, vision.config.vector_size
    return vision, codernn(
        code_vectors=vision.code_vectors, num_codes=16, digit_sizes=sizes, vector_size=size
    ).eval()


def both(
    kind: str, store: EpisodeStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[VAE | VQVAE, MDNRNN | CodeRNN, EncodedEpisodes, EncodedEpisodes]:
    """Encode the same episodes twice: into memory, and into a file."""
    vision, memory = models(kind)
    inside = encode_dataset(vision, store.episodes, 2, folder=folder)
    monkeypatch.setattr(encoding, "MAX_BYTES_IN_MEMORY", inside.num_bytes - 1)
    outside = encode_dataset(vision, store.episodes, 2, folder=folder)
    return vision, memory, inside, outside


def assert_equal(one: SequenceBatch, other: SequenceBatch) -> None:
    for name in FIELDS:
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype and torch.equal(left, right), name


@KINDS
def test_a_file_gives_the_same_batches_and_figures_as_memory(
    kind: str, store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, memory, inside, outside = both(kind, store, tmp_path, monkeypatch)
    batches = [SequenceBatches(each, 6, 3, burn_in=1) for each in (inside, outside)]
    for step in range(5):
        draws = (torch.Generator().manual_seed(step) for _ in batches)
        pair = [batch(step, draw) for batch, draw in zip(batches, draws, strict=True)]
        assert_equal(*pair)
    for single, other in zip(
        inside.single_steps().parts(4), outside.single_steps().parts(4), strict=True
    ):
        assert_equal(single, other)
    assert held_out_metrics(memory, inside) == held_out_metrics(memory, outside)
    scores = [score_memory(vision, memory, each, each) for each in (inside, outside)]
    assert scores[0] == scores[1]


@KINDS
def test_the_file_has_no_name_and_is_gone_with_the_data(
    kind: str, store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, outside = both(kind, store, tmp_path, monkeypatch)
    if os.name == "posix":  # elsewhere it has a name until it is closed
        assert not list(tmp_path.iterdir())
    records: Any = outside._records
    file = records._file
    del records
    assert os.fstat(file.fileno()).st_size == outside.num_bytes
    del outside
    assert file.closed


def test_encodings_that_do_not_fit_the_disk_are_refused(
    store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, _ = models("vae")
    monkeypatch.setattr(encoding, "MAX_BYTES_IN_MEMORY", 0)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("worldmodels.memory.encoded_episodes.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"encoded episodes for .* GB free: make room"):
        encode_dataset(vision, store.episodes, 2, folder=tmp_path)


@KINDS
def test_batches_hold_what_v_makes_of_each_frame(kind: str, store: EpisodeStore) -> None:
    vision, _ = models(kind)
    episodes = encode_dataset(vision, store.episodes, 2)
    whole = episodes.whole()
    for row, episode in enumerate(store):
        frames = episode.load().frames
        kept = [*range(0, len(frames) - 1, 2), len(frames) - 1]
        expected = encode_frames(vision, frames[kept])
        assert whole.posteriors.dtype == expected.dtype
        assert torch.equal(whole.posteriors[row, : len(kept)], expected)
        assert not whole.posteriors[row, len(kept) :].any()
    assert whole.terminated.nonzero().tolist() == [[2, 1]]
    assert_equal(episodes.windows(torch.tensor([3]), torch.tensor([2]), 3), whole_window(whole))


def whole_window(whole: SequenceBatch) -> SequenceBatch:
    return whole.windows(torch.tensor([3]), torch.tensor([2]), 3)


@KINDS
def test_parts_are_the_padded_whole_cut_by_rows(kind: str, store: EpisodeStore) -> None:
    episodes = encode_dataset(models(kind)[0], store.episodes, 2)
    whole = episodes.whole()
    for from_records, from_batch in zip(episodes.parts(11), whole.parts(11), strict=True):
        assert len(from_records) == 2 and from_records.mask.shape[1] == 5
        assert_equal(from_records, from_batch)


@KINDS
def test_singles_are_those_of_the_padded_whole(kind: str, store: EpisodeStore) -> None:
    episodes = encode_dataset(models(kind)[0], store.episodes, 2)
    single_steps, expected = episodes.single_steps(), episodes.whole().single_steps()
    assert len(single_steps) == len(expected) == 3 + 4 + 2 + 5
    rows = torch.tensor([13, 0, 3, 8, 2])
    assert_equal(single_steps.windows(rows, torch.zeros_like(rows), 1), expected[rows])
    assert len(list(single_steps.parts(4))) == 4


def test_codes_take_the_smallest_type_that_holds_them() -> None:
    assert [smallest_type(count).name for count in (2, 256, 257, 32_768, 32_769)] == [
        *("uint8", "uint8", "int16", "int16", "int32")
    ]
    codes = np.array([[0, 255, 256, 32_767]])
    for count, held in ((256, codes[:, :2]), (32_768, codes)):
        records = np.zeros(2, record_type(smallest_type(count), held.shape[1], 1))
        records["posterior"] = held
        batch = EncodedEpisodes.gather([records], [1]).whole()
        assert batch.posteriors.dtype == torch.int64
        assert batch.posteriors[0, 1].tolist() == held[0].tolist()


@pytest.mark.parametrize(("kind", "per_step"), [("vae", 4 * 6 + 17), ("fsq", 16 + 17)])
def test_an_agent_step_takes_its_posterior_and_seventeen_bytes(
    kind: str, per_step: int, store: EpisodeStore
) -> None:
    """Three actions and a reward take 4 bytes each; the flag of termination takes one byte."""
    vision, _ = models(kind)
    episodes = encode_dataset(vision, store.episodes, 2)
    records = sum(-(-length // 2) + 1 for length in LENGTHS)
    assert episodes.num_bytes == per_step * records == encoded_bytes(vision, store.episodes, 2)
    many = [np.zeros(1001, episodes._type) for _ in range(50)]
    tracemalloc.start()
    held = EncodedEpisodes.gather((records.copy() for records in many), [1000] * 50)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held.num_bytes <= size < 1.05 * held.num_bytes


def test_a_data_set_in_memory_shares_its_records_with_the_cache(store: EpisodeStore) -> None:
    encodings = Encodings()
    episodes = encode_dataset(models("vae")[0], store.episodes, 2, encodings=encodings)
    kept = list(encodings._known.values())
    assert len(kept) == len(LENGTHS)
    records: Any = episodes._records
    for mine, theirs in zip(records._episodes, kept, strict=True):
        assert np.shares_memory(mine, theirs)


def test_a_data_set_in_a_file_is_not_kept_in_the_cache(
    store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings = Encodings()
    monkeypatch.setattr(encoding, "MAX_BYTES_IN_MEMORY", 0)
    encode_dataset(models("vae")[0], store.episodes, 2, folder=tmp_path, encodings=encodings)
    assert not encodings._known


@KINDS
def test_the_stage_trains_the_same_m_from_a_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for picture in ("stages.train_memory.save_dreams", "training.stage.save_curves"):
        monkeypatch.setattr(f"worldmodels.{picture}", lambda *args, **kwargs: None)
    config = preset_named("tiny").memory.with_steps(3)
    results, weights = [], []
    for name in ("memory", "file"):
        run = tiny_run(tmp_path / name, kind)
        results.append(train_memory(run, config, report=Report(quiet=True), round_=2))
        weights.append(run.weights("memory").read_bytes())
        monkeypatch.setattr(encoding, "MAX_BYTES_IN_MEMORY", 0)
    for result in results:
        result.pop("training_seconds")
    assert results[0] == results[1]
    assert weights[0] == weights[1]
    assert not list((tmp_path / "file").glob(".encoded-*"))


def test_the_plan_of_training_counts_what_lies_in_memory_and_what_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []

    def stop_at(self: Any, what: str, **metadata: Any) -> NoReturn:
        plans.append(metadata)
        raise KeyboardInterrupt

    monkeypatch.setattr(Report, "estimate", stop_at)
    for name in ("memory", "file"):
        with pytest.raises(KeyboardInterrupt):
            train_memory(
                tiny_run(tmp_path / name), preset_named("tiny").memory, report=Report(quiet=True)
            )
        monkeypatch.setattr(encoding, "MAX_BYTES_IN_MEMORY", 0)
        monkeypatch.setattr("worldmodels.stages.train_memory.MAX_BYTES_IN_MEMORY", 0)
    inside, outside = plans
    # Of 12 training and 2 held-out agent steps in five episodes.
    records = (12 + 2 + 5) * (4 * 6 + 17)
    assert inside["memory_bytes"] - outside["memory_bytes"] == records
    assert outside["disk_bytes"] - inside["disk_bytes"] == records
    # 8 sequences of 4 agent steps, and the numbers of one 128-unit LSTM and 1 Gaussian.
    batch = 8 * 4 * (8 * 6 + 4 * (24 * 128 + 3 * 3 * 3))
    assert outside["memory_bytes"] == PROCESS_BYTES + batch


def largest_part(
    memory_class: type[MDNRNN | CodeRNN], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Record the size of the largest batch whose loss is computed, in a list of one number."""
    largest, loss = [0], memory_class.loss

    def watched(self: Any, batch: SequenceBatch, generator: torch.Generator | None = None) -> Any:
        largest[0] = max(largest[0], len(batch))
        return loss(self, batch, generator)

    monkeypatch.setattr(memory_class, "loss", watched)
    return largest


@KINDS
def test_m_is_trained_over_parts_of_its_batches(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldmodels.stages.train_memory._write", lambda *args: None)
    monkeypatch.setattr("worldmodels.training.stage.save_curves", lambda *args, **kwargs: None)
    run, config = tiny_run(tmp_path, kind), preset_named("tiny").memory.with_steps(1)
    largest = largest_part(MDNRNN if kind == "vae" else CodeRNN, monkeypatch)
    monkeypatch.setattr(part_size, "MAX_BYTES", 1)
    train_memory(run, config, report=Report(quiet=True))
    assert largest == [1]


@KINDS
def test_an_m_without_recurrence_is_trained_over_parts_too(
    kind: str, store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, _ = models(kind)
    episodes = encode_dataset(vision, store.episodes, 2)
    config = preset_named("tiny").memory.with_steps(1)
    largest = largest_part(MDNRNN if kind == "vae" else CodeRNN, monkeypatch)
    monkeypatch.setattr(part_size, "MAX_BYTES", 1)
    train_memoryless(config, vision, episodes, episodes, seed=0, report=Report(quiet=True))
    assert largest == [1]
