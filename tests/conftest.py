"""Types and tensor shapes in signatures are checked while the tests run.

Installed here, before any test module imports the packages; worker processes go unchecked.
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
    """For tests that hand over a wrong type on purpose, to see our own error."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
