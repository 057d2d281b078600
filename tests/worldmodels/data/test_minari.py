"""Runs are exported to Minari datasets and imported again, as are datasets that others made."""

import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from tests.fixtures.command import wm_json
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID
from tests.fixtures.minari_datasets import (
    BOX,
    NAME,
    QUIET,
    box_actions,
    collected,
    export,
    made_by_others,
    pictures,
    pixels,
    read,
)
from tests.fixtures.tiny_models import rollout
from worldmodels.data.minari_export import write_dataset
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages import data as stage
from worldmodels.stages.data import data_info

minari = pytest.importorskip("minari")


@pytest.mark.parametrize("env_id", [BOX_ID, DISCRETE_ID])
def test_a_run_comes_back_byte_for_byte(tmp_path: Path, env_id: str) -> None:
    run = collected(tmp_path / "run", env_id)
    if env_id == DISCRETE_ID:
        actions = np.eye(3, dtype=np.float32)[[2, 0, 1, 1, 2]]
    else:
        actions = np.random.default_rng(0).uniform(0, 1, (5, 2)).astype(np.float32)
    metadata: dict[str, Any] = {
        "env_id": env_id.rpartition(":")[2],
        "actions": actions,
        "terminated": True,
    }
    run.store.add(12, rollout(5, **metadata), round=2, surprise=0.25)
    (run.store.folder / "episode-000004.npz").unlink()  # a gap stays a gap
    export(run, tmp_path)
    read(tmp_path / "back", tmp_path)
    back = Run(tmp_path / "back")
    assert back.settings == run.settings
    files = {path.name: path.read_bytes() for path in run.store.folder.iterdir()}
    assert {path.name: path.read_bytes() for path in back.store.folder.iterdir()} == files
    assert len(files) == 12


def test_the_arguments_of_an_env_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wm_json(
        *("collect", "--run", folder, "--env", BOX_ID, "--env-arg", "discrete=true"),
        *("--preset", "tiny", "--episodes", 2, "--workers", 1),
    )
    run = Run(folder)
    export(run, tmp_path)
    read(tmp_path / "back", tmp_path)
    back = Run(tmp_path / "back")
    assert back.settings == run.settings and back.settings.env_kwargs == {"discrete": True}
    assert [e.meta for e in back.store] == [e.meta for e in run.store]
    # Another env in its place, whose actions are the same: its arguments replace those.
    read(tmp_path / "other", tmp_path, env=DISCRETE_ID)
    other = Run(tmp_path / "other")
    assert other.settings.env_kwargs == {}
    assert all("env_kwargs" not in episode.meta for episode in other.store)


def test_minari_reads_what_was_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = collected(tmp_path / "run", DISCRETE_ID)
    result = export(run, tmp_path / "datasets")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    assert list(minari.list_local_datasets()) == [NAME]
    dataset = minari.load_dataset(NAME)
    assert dataset.action_space == spaces.Discrete(3, start=1)
    assert dataset.observation_space == spaces.Box(0, 255, (64, 64, 3), np.uint8)
    assert (len(dataset), result["episodes"]) == (12, 12)
    run.store.refresh()
    for ours, theirs in zip(run.store, dataset, strict=True):
        played = ours.load()
        assert np.array_equal(theirs.observations, played.frames)
        assert np.array_equal(theirs.actions, played.actions.argmax(1) + 1)
        assert theirs.rewards.dtype == np.float32
        assert np.array_equal(theirs.rewards, played.rewards)
        assert theirs.terminations.tolist() == [False] * (len(theirs) - 1) + [True]
        assert not theirs.truncations.any()
    raw = sum(episode.num_frames() for episode in run.store) * 64 * 64 * 3
    assert result["bytes"] < raw / 2  # as Minari writes them, frames take all of that


def test_a_data_set_of_others_trains_a_world_model(tmp_path: Path) -> None:
    count = 12
    frames = [pictures(21, (80, 120), seed) for seed in range(count)]
    actions = [np.random.default_rng(i).integers(5, 7, 20) for i in range(count)]
    space = spaces.Discrete(2, start=5)  # two actions, as the env has
    name = made_by_others(
        tmp_path, frames, actions, (pixels((80, 120)), space), env=gym.spec("CartPole-v1")
    )
    folder = tmp_path / "run"
    result = read(folder, tmp_path, name, preset="tiny")
    assert (result["episodes"], result["env_steps"]) == (count, count * 20)
    run = Run(folder)
    assert run.settings == RunSettings("CartPole-v1", "tiny", 0)
    played = run.store.episodes[3].load()
    assert played.frames.shape == (21, 64, 64, 3)
    # Area-resized, each pixel the mean of the part of the picture it stands for.
    assert np.abs(played.frames.mean((1, 2, 3)) - frames[3].mean((1, 2, 3))).max() < 1
    assert np.array_equal(played.actions, np.eye(2, dtype=np.float32)[actions[3] - 5])
    assert np.array_equal(played.rewards, np.linspace(0, 1, 20, dtype=np.float32))
    assert (played.terminated, played.truncated, played.seed) == (True, False, -1)
    assert (played.policy, played.action_repeat) == ("somebody", 1)
    wm_json("train-vision", "--run", folder, "--train-steps", 3)
    assert wm_json("train-memory", "--run", folder, "--train-steps", 3)["agent_steps"] == 10 * 20


@pytest.mark.parametrize("keys", [("pixels", "wrist"), ("picture",)])
def test_pixels_among_other_observations_are_found(tmp_path: Path, keys: tuple[str, ...]) -> None:
    space = spaces.Dict({**{key: pixels() for key in keys}, "speed": spaces.Box(0, 1, (2,))})
    seen = {key: pictures(5, seed=seed) for seed, key in enumerate(keys)}
    observations = {**seen, "speed": np.zeros((5, 2), np.float32)}
    name = made_by_others(tmp_path, [observations] * 2, [box_actions(4)] * 2, (space, BOX))
    read(tmp_path / "run", tmp_path, name, env="LunarLanderContinuous-v3")
    run = Run(tmp_path / "run")
    assert run.settings.env_id == "LunarLanderContinuous-v3"
    for episode in run.store:
        played = episode.load()
        assert np.array_equal(played.frames, seen[keys[0]])
        assert np.array_equal(played.actions, box_actions(4).astype(np.float32))
    # And on to another dataset, which names the env.
    export(run, tmp_path, "onward-v0")
    read(tmp_path / "again", tmp_path, "onward-v0")
    assert Run(tmp_path / "again").store.digest == run.store.digest


def test_an_env_that_is_named_replaces_the_datasets(tmp_path: Path) -> None:
    run = collected(tmp_path / "run", DISCRETE_ID)
    export(run, tmp_path)
    make: Any = lambda render_mode=None: gym.make(DISCRETE_ID)  # noqa: E731
    gym.register("AsCounting-v0", make)
    for env in ("AsCounting-v0", "tests.fixtures.minari_datasets:AsCounting-v0"):
        folder = tmp_path / env.partition(":")[0]
        assert read(folder, tmp_path, env=env)["env"] == env
        back = Run(folder)
        assert (back.settings.env_id, back.settings.seed) == (env, 3)
        # As the env calls itself: as in episodes that are collected beside them.
        assert {episode.meta["env_id"] for episode in back.store} == {"AsCounting-v0"}


def test_an_env_that_is_not_installed_is_named_and_V_and_M_can_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = EnvSpec("Elsewhere-v0", entry_point=gym.spec("CartPole-v1").entry_point)
    actions = np.array([0, 1, 1, 0])
    name = made_by_others(
        tmp_path, [pictures(5)] * 2, [actions] * 2, (pixels(), spaces.Discrete(2)), env=spec
    )
    read(tmp_path / "run", tmp_path, name, report=Report())
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cannot be used" in line]
    assert line.startswith(f"Elsewhere-v0, the environment of {name}, cannot be used: ")
    assert line.endswith("; V and M can be trained, but C needs the environment")
    assert Run(tmp_path / "run").settings.env_id == "Elsewhere-v0"


def test_folders_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    monkeypatch.chdir(tmp_path)
    result = export(run, Path("datasets"))
    assert Path(result["folder"]) == tmp_path / "datasets" / NAME
    read(Path("back"), Path("datasets"))
    assert Run(tmp_path / "back").store.digest == run.store.digest


def test_an_interrupted_export_or_import_leaves_no_half_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    root = tmp_path / "datasets"

    def interrupted(*arguments: Any, **settings: Any) -> NoReturn:
        write_dataset(*arguments, **settings)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_dataset", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export(run, root)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    # A kill leaves its hidden folder, which the next export takes away.
    shutil.copytree(run.store.folder, root / "tests" / ".counted-v0.partial")
    export(run, root)
    assert sorted(path.name for path in (root / "tests").iterdir()) == [
        "counted-v0",
        "namespace_metadata.json",
    ]

    write_bytes = Path.write_bytes

    def cut_off(path: Path, content: bytes) -> None:
        if "episode-000005" in path.name:
            raise KeyboardInterrupt
        write_bytes(path, content)

    back = tmp_path / "back"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", cut_off)
        with pytest.raises(KeyboardInterrupt):
            read(back, root)
    assert not back.exists()
    shutil.copytree(run.store.folder, back / ".episodes.partial")
    (back / ".episodes.partial" / "episode-000000.npz").write_bytes(b"half")
    read(back, root)
    assert Run(back).store.digest == run.store.digest
    assert not (back / ".episodes.partial").exists()


def test_info_counts_what_is_there_and_names_what_is_not_whole(tmp_path: Path) -> None:
    run = collected(tmp_path / "run", BOX_ID)
    metadata = data_info(run, check=True, report=QUIET)
    episodes = list(run.store)
    frames = sum(episode.num_steps + 1 for episode in episodes)
    size = sum(path.stat().st_size for path in run.store.folder.iterdir())
    assert (metadata["episodes"], metadata["held_out"], metadata["bytes"]) == (12, 2, size)
    assert metadata["env_steps"] == frames - 12
    assert metadata["bytes_per_frame"] == pytest.approx(size / frames)
    assert metadata["compression_ratio"] == pytest.approx(frames * 64 * 64 * 3 / size)
    returns = [episode.load().episode_return for episode in episodes]
    assert metadata["mean_return"] == pytest.approx(np.mean(returns))
    assert (metadata["damaged"], metadata["foreign"]) == ("none", "none")
    folder = run.store.folder
    (folder / "notes.txt").touch()
    (folder / "episode-000001.npz").write_bytes(b"garbage")
    spoiled = folder / "episode-000002.npz"
    content = bytearray(spoiled.read_bytes())
    content[content.index(b"frames.npy") + 150] ^= 1
    spoiled.write_bytes(content)
    metadata = data_info(run, check=False, report=QUIET)
    assert metadata["damaged"] == {"episode-000001.npz": "File is not a zip file"}
    metadata = data_info(run, check=True, report=QUIET)
    assert list(metadata["damaged"]) == ["episode-000001.npz", "episode-000002.npz"]
    assert list(metadata["foreign"]) == ["notes.txt"]
    json.dumps(metadata)
    with pytest.raises(UserError, match="no run in"):
        data_info(Run(tmp_path / "none"), check=False, report=QUIET)


def test_the_command_calls_the_stages(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from worldmodels.cli.data import data_app

    collected(tmp_path / "run", BOX_ID)
    where = ["--dataset", NAME, "--root", str(tmp_path), "--quiet", "--json"]

    def called(*arguments: str) -> Any:
        done = CliRunner().invoke(data_app, [*arguments])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert called("export", "--run", str(tmp_path / "run"), *where)["episodes"] == 12
    assert called("import", "--run", str(tmp_path / "back"), *where)["episodes"] == 12
    output = called("info", "--run", str(tmp_path / "back"), "--verify", "--quiet", "--json")
    assert (output["episodes"], output["damaged"]) == (12, "none")
    assert Path(output["folder"]) == tmp_path / "back" / "episodes"
