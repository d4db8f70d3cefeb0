"""Files of `bitleak quantize` hold answers of an outside network, which loading compares."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from bitleak.core.errors import ModelError, StoreError
from bitleak.core.types import ModelSpec
from bitleak.models import build, load
from bitleak.models.fingerprint import with_fingerprint
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.single_network import load_quantized, save_quantized


class Flat(nn.Module):
    """A linear classifier, after a factor that is no tensor."""

    factor = 1.0

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.factor * x.flatten(1))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    module = types.ModuleType("flat_zoo")
    module.Flat = Flat
    monkeypatch.setitem(sys.modules, "flat_zoo", module)
    monkeypatch.setattr(Flat, "factor", 1.0)
    options = {"factory": "flat_zoo:Flat"}
    spec = ModelSpec("external", options, 3, 1, 8, mean=(0.4,), std=(0.3,))
    network = build(spec, seed=0).eval()
    quantized = RoundToNearest(levels=4)(network, torch.zeros(2, 1, 8, 8), torch.Generator())
    quantized = type(quantized)(quantized.layers, quantized.rest, spec, quantized.record)
    loaded = load(quantized.dequantize(), allow_external=True)
    save_quantized(with_fingerprint(quantized, loaded), tmp_path / "rtn-4")
    return tmp_path / "rtn-4.json", loaded


def test_a_factory_that_changed_after_quantizing_is_refused(saved, monkeypatch):
    path, network = saved
    images = torch.ones(2, 1, 8, 8)
    again = load(load_quantized(path).dequantize(), allow_external=True)
    assert torch.equal(again(images), network(images))
    monkeypatch.setattr(Flat, "factor", 2.0)
    with pytest.raises(ModelError, match="answers fixed images otherwise than when they were"):
        load(load_quantized(path).dequantize(), allow_external=True)


def test_a_file_without_answers_is_read_with_a_warning_and_a_bad_one_is_refused(saved):
    path, network = saved
    content = json.loads(path.read_text())
    answers = content.pop("fingerprint")
    assert np.shape(answers) == (4, 3)
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="without answers of its network"):
        quantized = load_quantized(path)
    images = torch.ones(2, 1, 8, 8)
    again = load(quantized.dequantize(), allow_external=True)
    assert torch.equal(again(images), network(images))
    for wrong in ("text", [1.0], [[1.0], [2.0, 3.0]]):
        path.write_text(json.dumps({**content, "fingerprint": wrong}))
        with pytest.raises(StoreError, match=r"rtn-4.json: .*fingerprint"):
            load_quantized(path)
