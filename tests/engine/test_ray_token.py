"""A Ray cluster that an audit starts asks its clients for a token, since it listens on all interfaces."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="needs the extra: pip install 'bitleak[ray]'")

from bitleak.engine.executors.ray import Ray
from bitleak.engine.store import Store
from bitleak.engine.worker import Runtime

STRANGER = "import ray, sys; ray.init(address=sys.argv[1], logging_level=50); print('joined')"


@pytest.mark.slow
def test_a_local_cluster_refuses_who_lacks_its_token(tmp_path, monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Store(tmp_path)
    before = dict(os.environ)
    for _ in range(2):  # the second cluster of a process has a token of its own
        executor = Ray(str(tmp_path), Runtime(), workers=1)
        try:
            call = [sys.executable, "-c", STRANGER, executor.address]
            stranger = subprocess.run(call, capture_output=True, text=True, timeout=120)
            assert "joined" not in stranger.stdout
            assert "InvalidAuthToken" in stranger.stderr
        finally:
            executor.close()
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert {name: os.environ[name] for name in before} == before
