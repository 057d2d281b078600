"""Runs small enough for a test, for whatever dreams of them."""

import numpy as np
import pytest

from tests.fixtures.tiny_run import tiny_run
from worldmodels.runs.run import Run


@pytest.fixture(scope="module", params=["vae", "fsq"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of either kind; its dreams end at the horizon alone."""
    return tiny_run(tmp_path_factory.mktemp("runs") / request.param, request.param)


@pytest.fixture(scope="module")
def terminating_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Dreams end with probability 0.3 an agent step."""
    folder = tmp_path_factory.mktemp("runs") / "terminating_run"
    return tiny_run(folder, end_logit=float(np.log(0.3 / 0.7)))
