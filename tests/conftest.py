"""Shared by every test: shapes are checked at run time, and the golden arrays are at hand."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test must never wait for a network that it must not use
os.environ["HEADLENS_PROGRESS"] = "0"
os.environ["HEADLENS_CACHE"] = "0"  # what one run embeds must not answer the next
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the arrays are small: threads cost more than they give

from jaxtyping import install_import_hook

install_import_hook("headlens", "beartype.beartype")

from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """`golden("methods")`: the arrays that the published implementations produce; see tests/golden/README.md."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return read


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Our own errors are for users, who run without the test run's shape checks: those would answer first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
