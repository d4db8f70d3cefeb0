"""A small audit as a config file, and the command line as a function."""

import importlib

import pytest
import yaml

from bitleak.cli import main

TINY = {
    "title": "tiny",
    "data": {"name": "digits", "limit": 200},
    "split": {"mode": "population", "models": 6, "targets": 2, "held_out": 0.3, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 2, "batch": 32, "augment": []},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [4, 3]}],
    "attacks": ["lira", "threshold"],
    "query": {"augment": ["identity", "shift:1,0"]},
    "fpr": [0.05, 0.1],
}


@pytest.fixture(scope="session")
def tiny_config():
    """A small audit, not to be changed."""
    return TINY


@pytest.fixture
def tiny(tiny_config):
    """A copy of it, to be changed."""
    return yaml.safe_load(yaml.safe_dump(tiny_config))


@pytest.fixture
def bitleak(tmp_path, capfd, monkeypatch):
    """Runs a verb in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, config=None):
        if config is not None:
            text = config if isinstance(config, str | bytes) else yaml.safe_dump(config)
            (tmp_path / "config.yaml").write_bytes(
                text if isinstance(text, bytes) else text.encode()
            )
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def without_new_process(monkeypatch):
    """Spares networks from outside the new process that makes them once more."""
    rooms = ("audit.preparation", "models.new_process", "single_network.quantization_job")
    # All before the first change, which a module that is imported later would keep for good.
    modules = [importlib.import_module(f"bitleak.{name}") for name in rooms]
    for module in modules:
        monkeypatch.setattr(module, "check_in_new_process", lambda spec: None)
