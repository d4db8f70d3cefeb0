"""For every room's tests: the slowest files first, and the means to leave out costly parts that a test is not about."""

import gc
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

# no test depends on the speed of the machine
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

FIRST = (  # by CPU seconds; two processes end together only if the long ones do not come last
    "contracts/test_quantizers.py",
    "audit/test_analyses.py",
    "quantizers/test_architectures.py",
    "cli/test_audit.py",
    "quantizers/test_layer_kinds.py",
    "answers/test_answer_files.py",
    "readers/test_mutants.py",
    "cli/test_quantize_command.py",
    "quantizers/test_shared_pass.py",
    "steps/test_steps.py",
    "audit/test_graph.py",
    "report/test_figure_contract.py",
    "cli/test_attack.py",
    "cli/test_external_audit.py",
    "answers/test_attack_run.py",
)
RANKS = {Path(__file__).parent / name: rank for rank, name in enumerate(FIRST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    assert all(path.is_file() for path in RANKS), "FIRST names a file that is gone"
    items.sort(key=lambda item: RANKS.get(item.path, len(RANKS)))


def pytest_collection_finish():
    """Modules and tests stay until the end: later searches for garbage need not go through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def undrawn():
    """A context in which reports have no figures; drawing them is half of the work of a small report."""

    @contextmanager
    def context():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bitleak.report.draw", lambda *_, **__: [])
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
