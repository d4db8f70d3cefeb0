"""For every room's tests: the slowest files first, and the means to leave out costly parts that a test is not about."""

from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import pytest

FIRST = (  # by CPU seconds; two processes end together only if the long ones do not come last
    "cli/test_audit.py",
    "audit/test_further.py",
    "quantizers/test_architectures.py",
    "test_stages.py",
    "cli/test_quantize.py",
    "cli/test_external_audit.py",
    "quantizers/network/test_plain_copy.py",
    "quantizers/test_unusual_calls.py",
    "answers/test_attack_run.py",
    "metrics/test_coverage.py",
    "cli/test_attack.py",
)
RANKS = {Path(__file__).parent / name: rank for rank, name in enumerate(FIRST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: RANKS.get(item.path, len(RANKS)))


@pytest.fixture(scope="session")
def undrawn():
    """A context in which reports have no figures; drawing them is half of the work of a small report."""

    @contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bitleak.report.draw", lambda *_: [])
            yield

    return context


@pytest.fixture
def without_figures(undrawn):
    """Reports of this test have no figures, which it is not about."""
    with undrawn():
        yield


@pytest.fixture(scope="session")
def unchecked():
    """A context without the checks of shapes and types, for thousands of calls that other tests check."""

    @contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
            yield

    return context


@pytest.fixture
def shapes_unchecked(unchecked):
    """Shapes and types are not checked in this test."""
    with unchecked():
        yield
