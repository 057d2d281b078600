"""Small runs for all tests that make dreams of a run."""

import numpy as np
import pytest

from tests.fixtures.tiny_run import tiny_run
from worldmodels.runs.run import Run


@pytest.fixture(scope="module", params=["vae", "fsq"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Make a run of either kind, whose dreams end only at the horizon."""
    return tiny_run(tmp_path_factory.mktemp("runs") / request.param, request.param)


@pytest.fixture(scope="module")
def terminating_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Make a run whose dreams end with probability 0.3 per agent step."""
    folder = tmp_path_factory.mktemp("runs") / "terminating_run"
    return tiny_run(folder, end_logit=float(np.log(0.3 / 0.7)))
