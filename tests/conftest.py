"""Check types and tensor shapes in signatures while the tests run.

This module installs the checks before any test module imports the packages. Worker processes do not
check types.
"""

import os
from collections.abc import Iterator

# Before torch is loaded; see worldmodels.cli.main.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import jaxtyping
import pytest

import tests.fixtures.typechecking  # noqa: F401 (the name below is looked up, not imported)

jaxtyping.install_import_hook(
    ("worldmodels", "agents", "envs"), "tests.fixtures.typechecking.check"
)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn the checks off for a test that passes a wrong type on purpose and expects our error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
