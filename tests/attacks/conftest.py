"""Worlds whose answer is known, as attack views."""

from collections.abc import Callable

import numpy as np
import pytest

from bitleak.attacks import two_class_signals
from bitleak.core.types import AttackView


def complementary_pairs(rng, models, records):
    """Membership in which rows 2i and 2i + 1 are the halves of one random split."""
    ranks = rng.random((models // 2, records)).argsort(axis=1)
    first = np.zeros((models // 2, records), bool)
    np.put_along_axis(first, ranks[:, : records // 2], True, axis=1)
    return np.stack([first, ~first], axis=1).reshape(models, records)


def balanced_shadows(rng, shadows, records):
    """Membership in which every record is IN for exactly half of the shadows."""
    return rng.random((shadows, records)).argsort(axis=0) < shadows // 2


def view_of(target, references, member, use=None, population_target=None, population_references=None):
    """A view from logit-scaled confidences: target [records queries], references [refs records queries]."""
    queries = target.shape[1]
    if population_target is None:
        population_target = np.zeros((2, queries))
        population_references = np.zeros((len(references), 2, queries))
    return AttackView(
        target=two_class_signals(target),
        references=two_class_signals(references),
        member=member,
        use=np.ones_like(member) if use is None else use,
        population_target=two_class_signals(population_target),
        population_references=two_class_signals(population_references),
        labels=np.zeros(len(target), np.int64),
    )


@pytest.fixture
def worlds() -> dict[str, Callable]:
    return {"pairs": complementary_pairs, "shadows": balanced_shadows, "view": view_of}


def gaussian(seed, *, records=4000, models=34, shift=4.0, queries=2, population=1000):
    """Target row 0 of a population: confidence = difficulty + spread * (memory * member + noise).

    Memory is exponential over the records with mean `shift`, the spread log-normal around 1: some records are
    remembered much better, and some are much steadier over models.
    """
    rng = np.random.default_rng(seed)
    member = complementary_pairs(rng, models, records)
    difficulty, spread = rng.normal(4.0, 2.0, (records, queries)), np.exp(0.7 * rng.standard_normal((records, 1)))
    memory = rng.exponential(shift, (records, 1))
    confidence = memory * member[:, :, None] + rng.standard_normal((models, records, queries))
    confidence = difficulty + spread * confidence
    steady = np.exp(0.7 * rng.standard_normal((population, 1)))
    outside = rng.normal(4.0, 2.0, (population, queries)) + steady * rng.standard_normal((models, population, queries))
    return view_of(confidence[0], confidence[2:], member[2:], None, outside[0], outside[2:]), member[0]


@pytest.fixture
def gaussian_world() -> Callable:
    return gaussian
