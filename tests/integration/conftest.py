"""Fixtures of the host's tests; all of them skip where the extra is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.host import QUICK, edgecls, golden_weights, some_digits


@pytest.fixture(scope="session")
def all_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as a folder of pictures."""
    pytest.importorskip("sklearn", reason="the extra [host] is not installed")
    from host_tools.data.digits import write_digits

    return write_digits(tmp_path_factory.mktemp("digits") / "pictures")


@pytest.fixture(scope="session")
def digits(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of them, 100 pictures each: the small data set of most tests."""
    return some_digits(all_digits, tmp_path_factory.mktemp("four") / "four", (0, 1, 4, 7), 100)


@pytest.fixture(scope="session")
def built(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `edgecls build`: a run directory with artifacts. Tests copy what they change.

    Its model has the golden weights: right about all digits but some, on any processor.
    """
    pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    out = tmp_path_factory.mktemp("built") / "run"
    words = ("build", "digits", "--data", digits, "--out", out, "--corruptions", *QUICK)
    with golden_weights():
        result = edgecls(*words)
    assert result.exit_code == 0, result.output
    return out
