"""Datasets for the tests of Minari's format: of runs, and as others make them."""

import warnings

import numpy as np
import pytest
from gymnasium import spaces

from envs.config import EnvConfig
from tests.command import wm_json
from worldmodels.report import Report
from worldmodels.run import Run
from worldmodels.stages.data import export_data, import_data

minari, h5py = pytest.importorskip("minari"), pytest.importorskip("h5py")
from minari.data_collector import EpisodeBuffer  # noqa: E402

NAME = "tests/counted-v0"
QUIET = Report(quiet=True)


def collected(folder, env_id):
    wm_json(
        *("collect", "--run", folder, "--env", env_id, "--preset", "tiny", "--seed", 3),
        *("--episodes", 12, "--workers", 1),
    )
    return Run(folder)


def export(run, root, name=NAME):
    return export_data(run, name, root, report=QUIET)


def read(folder, root, name=NAME, preset=None, env=None, report=QUIET):
    return import_data(folder, name, root, preset=preset, env=env and EnvConfig(env), report=report)


def made_by_others(root, observations, actions, spaces_, name="others/some-v0", env=None):
    """Minari's own writer, with rewards of 64 bits and no seeds."""
    buffers = [
        EpisodeBuffer(
            observations=observation,
            actions=action,
            rewards=np.linspace(0, 1, len(action)),
            terminations=np.arange(len(action)) == len(action) - 1,
            truncations=np.zeros(len(action), bool),
        )
        for observation, action in zip(observations, actions, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        minari.create_dataset_from_buffers(
            name,
            buffers,
            env=env,
            observation_space=spaces_[0],
            action_space=spaces_[1],
            algorithm_name="somebody",
            jpeg_encoding=False,
        )
    return name


def pictures(count, size=(64, 64), seed=0):
    shape = (count, *size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pixels(size=(64, 64)):
    return spaces.Box(0, 255, (*size, 3), np.uint8)


BOX = spaces.Box(-1, 1, (2,), np.float64)


def box_actions(count):
    return np.random.default_rng(count).uniform(-1, 1, (count, 2))
