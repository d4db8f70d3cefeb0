"""Is a network of `bitleak ask` right on its members, or would it be with other inputs?

A network that is given inputs in another spelling than in its training still answers, and attacks on
these answers find too little. So the first network classifies a few of its members, or of all
records if they are not known; if it errs on more than 2 % of them, the usual standardisations and
channels or sides exchanged are tried.

Cost: `_SAMPLE` forward passes, and if it errs `_FIRST` for each of about nine spellings, `_SAMPLE` for
those that gain on these. A spelling that gains 4 deviations on 192 records gains 2.3 on the first
64, so that 1 % of the least certain proposals are missed, and fewer of others.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bitleak.core.errors import ConfigError, ModelError
from bitleak.core.types import Images, ModelSpec
from bitleak.data.standardisations import STANDARDS
from bitleak.single_network.answer_collection import AnswerJob, asker

_SAMPLE = 192
"""Records that are classified, three of the usual batches."""

_FIRST = 64
"""Records after which a spelling that gains nothing is given up."""

_SOUND = 0.98
"""Accuracy from which no other spelling is tried."""

_ALIKE = 0.1
"""Deviations and ratio by which standardisations may differ without being tried, as those of CIFAR-10 and CIFAR-100."""

_SMALLEST_GAIN = 0.02
"""Gain of accuracy from which another spelling is proposed."""

_CERTAIN = 4.0
"""Deviations by which the gain must differ from 0 (McNemar's test)."""


class _Trial(NamedTuple):
    """Another spelling of the inputs, and how to ask for it."""

    title: str
    advice: str
    spec: ModelSpec
    images: Images


def check_inputs(job: AnswerJob) -> None:
    """Refuse inputs under which the first network errs and under another usual spelling does not.

    Raises:
        ConfigError: There is one, with its accuracy.
    """
    member, spec = job.records.member, job.specs[0]
    pool = job.records.pool
    known = pool if member is None else pool[member[0]]
    if job.images.pixels.ndim != 4:
        return
    chosen = known[:: max(1, len(known) // _SAMPLE)][:_SAMPLE]
    images = job.images
    few = replace(
        images,
        pixels=images.pixels[chosen],
        labels=images.labels[chosen],
        held_out=images.held_out[chosen],
    )
    labels = few.labels
    ask, _ = asker(job, 0)

    def right(spec: ModelSpec, images: Images, places: slice) -> np.ndarray:
        numbers = np.arange(len(labels))[places]
        try:
            answers = ask(
                images,
                numbers,
                spec=spec,
                queries=("identity",),
                batch=job.checked.request.batch,
                on_batch=lambda _: None,
            )
        except (ModelError, ValueError):  # a spelling that the network does not take
            return np.zeros(len(numbers), bool)
        is_right: np.ndarray = answers[0].argmax(axis=1) == labels[numbers]
        return is_right

    given = right(spec, few, slice(None))
    if given.mean() >= _SOUND:
        return
    trials, results = [], []
    for trial in _trials(spec, few):
        first = right(trial.spec, trial.images, slice(_FIRST))
        if first.sum() > given[:_FIRST].sum():
            rest = right(trial.spec, trial.images, slice(_FIRST, None))
            trials.append(trial)
            results.append(np.concatenate([first, rest]))
    if not trials:
        return
    best = int(np.argmax([result.mean() for result in results]))
    gained, lost = int((results[best] & ~given).sum()), int((given & ~results[best]).sum())
    enough = gained - lost >= max(_SMALLEST_GAIN * len(given), _CERTAIN * math.sqrt(gained + lost))
    share = float(np.bincount(labels).max() / len(labels))
    chance = share + _CERTAIN * math.sqrt(share * (1 - share) / len(labels))
    after = float(results[best].mean())
    if gained and enough and after > chance:
        trial = trials[best]
        subject = "records" if member is None else "its members"
        raise ConfigError(
            f"--mean, --std: {job.names[0]} is right on {100 * given.mean():.1f} % of {len(given)} of {subject}, "
            f"but on {100 * after:.1f} % with {trial.title}: {trial.advice}, or give the numbers of the training. "
            "Attacks on answers to other inputs would find too little"
        )


def _trials(spec: ModelSpec, images: Images) -> Iterator[_Trial]:
    """Yield other spellings."""
    channels = images.pixels.shape[1]
    standards: list[tuple[str, tuple[float, ...], tuple[float, ...]]] = [
        ("inputs from 0 to 1", (0.0,), (1.0,)),
        ("inputs from 0 to 255", (0.0,), (1 / 255,)),
    ]
    for title, (mean, deviation) in STANDARDS.items():
        name = title if title.startswith("from") else f"{title}'s mean and deviation"
        standards.append((name, mean, deviation))
    for title, mean, deviation in standards:
        if len(mean) in (1, channels) and not _alike(spec, mean, deviation):
            texts = (",".join(f"{value:.5g}" for value in values) for values in (mean, deviation))
            advice = f"give --mean {next(texts)} --std {next(texts)}"
            factor = channels // len(mean)
            yield _Trial(
                title, advice, replace(spec, mean=mean * factor, std=deviation * factor), images
            )
    if channels == 3:
        flipped = np.ascontiguousarray(images.pixels[:, ::-1])
        advice = "store the images with the channels in the network's order"
        yield _Trial("channels exchanged", advice, spec, replace(images, pixels=flipped))
    if images.pixels.shape[2] == images.pixels.shape[3]:
        turned = np.ascontiguousarray(images.pixels.swapaxes(2, 3))
        advice = "store the images with the sides in the network's order"
        yield _Trial("height and width exchanged", advice, spec, replace(images, pixels=turned))


def _alike(spec: ModelSpec, mean: tuple[float, ...], deviation: tuple[float, ...]) -> bool:
    """Return whether numbers move the spec's inputs by too little to change many predictions."""
    given_mean, given_deviation = np.array(spec.mean), np.array(spec.std)
    shifts = np.abs(given_mean - mean) / given_deviation
    return bool(
        (shifts < _ALIKE).all() and (np.abs(given_deviation / deviation - 1) < _ALIKE).all()
    )
