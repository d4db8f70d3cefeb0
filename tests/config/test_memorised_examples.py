"""The examples on memorised CIFAR-100 share one population: what one has trained, the others find in the store."""

from dataclasses import replace
from pathlib import Path

import pytest

from bitleak.config import read_config, validate

EXAMPLES = Path(__file__).parents[2] / "examples"
FURTHER = [path.name for path in sorted(EXAMPLES.glob("cifar100-memorised-*.yaml"))]
SHARED = ("data", "split", "model", "train", "query", "canaries", "fpr", "seed")


@pytest.mark.parametrize("name", FURTHER)
def test_models_and_variants_of_the_same_name_are_those_of_the_first_example(name):
    first, further = (
        validate(read_config(EXAMPLES / file)) for file in ("cifar100-memorised.yaml", name)
    )
    for section in SHARED:
        assert getattr(further, section) == getattr(first, section), section
    known = {entry.variant: entry for entry in first.quantize}
    common = [entry for entry in further.quantize if entry.variant in known]
    assert common
    for entry in common:
        assert replace(entry, label="") == replace(known[entry.variant], label="")


def test_all_of_them_are_there():
    assert len(FURTHER) == 3
