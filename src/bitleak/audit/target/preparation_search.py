"""Search for the preparation of the inputs under which a target fits its own members best.

A network is trained until the loss of its members is small for inputs as they were prepared then, so
under another preparation their loss is larger, even where nearly all members stay right. Inputs that
are stretched make all logits larger, and the loss of members that are right smaller, so losses are
compared at one size of the logits,

    -log softmax(LOGIT_SIZE z / rms(z))[label]

with z less their mean over the classes, and the root mean square over members and classes. Candidates
are the usual spellings of the inputs and, for a file whose runtime is told which pixels it takes, the
other values of that option.

The search narrows: `FIRST` members under every candidate, then `MORE` of them under those that come
near the best one, by the share of members that are right or by their loss.

Cost: `FIRST` forward passes for each of about a dozen candidates, and `MORE` for those that come near.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bitleak.audit.target.input_spelling import (
    InputSpelling,
    Proposal,
    in_larger_units,
    standard_proposals,
    unit_of,
    variations,
)
from bitleak.audit.target.network_answers import Records, logits_of
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.signals import signals
from bitleak.core.types import LOG_PROBABILITY
from bitleak.runtimes.file_agreement import PREPARATIONS
from bitleak.runtimes.file_network import FileNetwork
from bitleak.runtimes.runtime import CheckedNetwork, open_network

FIRST = 64
"""Members that are classified under every candidate."""

MORE = 200
"""Members that are classified under the candidates that come near the best one."""

NEARLY = 0.01
"""Difference of accuracy up to which two candidates are about equally right."""

LOGIT_SIZE = 2.0
"""Root mean square of the logits at which losses are compared: a confident answer has a loss of 0.01 to 0.1,
so that neither a few large losses nor the many small ones decide."""

_NEAR_ACCURACY = 0.05
"""Difference of accuracy up to which a candidate is classified on `MORE` members."""

_NEAR_LOSS = 3.0
"""Deviations of a paired difference of the loss up to which it is, too."""

_PIXELS = {
    "unit": "a file that takes pixels from 0 to 1",
    "bytes": "a file that takes pixels from 0 to 255",
    "standardised": "a file that takes standardised inputs",
}


class PreparationFit(NamedTuple):
    """Answers to members under one preparation.

    Attributes:
        right: True for a member that is classified right.
        loss: Loss with logits of the size `LOGIT_SIZE`.
    """

    right: Bool[np.ndarray, "members"]
    loss: Float64[np.ndarray, "members"]

    def of(self, chosen: Int64[np.ndarray, "chosen"]) -> "PreparationFit":
        """Return the answers to some of the members."""
        return PreparationFit(self.right[chosen], self.loss[chosen])

    @property
    def key(self) -> tuple[float, float]:
        """Share of members that are right, then their mean loss with the sign changed; larger fits better."""
        return float(self.right.mean()), -float(self.loss.mean())


@dataclass(frozen=True)
class Candidate:
    """A preparation of the inputs to try.

    Attributes:
        title: Its name for people.
        model: The target, opened for it.
        spelling: The spelling of the inputs.
        pixels: Value of the runtime's option; empty if the spelling is the candidate.
        rank: Smaller is a smaller change, and is preferred to another candidate that does as well.
    """

    title: str
    model: Any
    spelling: InputSpelling
    pixels: str = ""
    rank: int = 0

    def field(self, where: str) -> str:
        """Return the names of the fields that it changes."""
        if self.pixels:
            return f"{where}runtime" if where else "network"
        return f"{where}mean, deviation, scale"

    def advice(self, where: str) -> str:
        """Return the text to write, and its place."""
        if self.pixels:
            if where:
                return f"runtime: {{pixels: {self.pixels}}} in the {where.rstrip('.')} section"
            return f"ReleaseFile(path, {{'pixels': {self.pixels!r}}}) in the call"
        place = f"{where.rstrip('.')} section" if where else "call"
        return f"{self.spelling.as_text(python=not where)} in the {place}"


class Search(NamedTuple):
    """Result of a search.

    Attributes:
        most_right: Candidate under which more members are right; None if there is none.
        surest: Candidate under which their loss is smallest; None if it is the given preparation.
    """

    most_right: Candidate | None
    surest: Candidate | None


def fit_of(
    candidate: Candidate, records: Records, chosen: Int64[np.ndarray, "chosen"]
) -> PreparationFit | None:
    """Return the answers under a candidate; None if there are none, as after an overflow."""
    try:
        logits = logits_of(candidate.model, records, chosen, spelling=candidate.spelling)
    except ModelError:
        return None
    return fit_of_logits(logits, records.labels[chosen])


def fit_of_logits(
    logits: Float64[np.ndarray, "members classes"], labels: Int64[np.ndarray, "members"]
) -> PreparationFit:
    """Return the answers to members, from their logits."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    size = math.sqrt(float(np.mean(centred**2)))
    of_one_size = LOGIT_SIZE * centred / max(size, 1e-30)
    return PreparationFit(
        logits.argmax(axis=1) == labels,
        -signals(of_one_size, labels)[:, LOG_PROBABILITY],
    )


def searched(
    model: Any, records: Records, sample: Int64[np.ndarray, "sample"], given: PreparationFit
) -> Search:
    """Return the candidates that fit a sample of the members better than the given preparation.

    Args:
        model: The target.
        records: All records, images, with the given spelling.
        sample: Members.
        given: Their answers under the given preparation.
    """
    order = np.random.default_rng(seed_for(0, "spellings")).permutation(len(sample))
    first, more = np.sort(order[:FIRST]), np.sort(order[:MORE])
    candidates = list(_candidates(model, records, sample[more]))
    fits = [fit_of(candidate, records, sample[first]) for candidate in candidates]

    # Two faults at a time: the best candidate with channels or sides exchanged.
    best = max(
        range(len(fits)),
        key=lambda place: (-1.0, 0.0) if (fit := fits[place]) is None else fit.key,
        default=None,
    )
    for candidate in () if best is None else _combined(candidates[best], records):
        candidates.append(candidate)
        fits.append(fit_of(candidate, records, sample[first]))

    # Candidates that come near are classified on more members.
    near = _near(fits, given.of(first))
    kept, refined = [], []
    for place in near:
        fit = fit_of(candidates[place], records, sample[more])
        if fit is not None:
            kept.append(candidates[place])
            refined.append(fit)
    return Search(
        _most_right(kept, refined, given.of(more)), _surest(kept, refined, given.of(more))
    )


def _candidates(model: Any, records: Records, few: Int64[np.ndarray, "few"]) -> Iterator[Candidate]:
    """Yield every preparation besides the given one."""
    file = _file_of(model)
    pixels = PREPARATIONS[0] if file is None else file.file.options.get("pixels", PREPARATIONS[0])
    for item in _proposals(records, few):
        # A runtime that makes pixels of standardised inputs undoes any mean and deviation.
        plain = replace(
            records.spelling, channels=item.spelling.channels, layout=item.spelling.layout
        )
        if pixels == PREPARATIONS[0] or item.spelling == plain:
            yield Candidate(item.title, model, item.spelling, rank=item.rank)
    if file is None or pixels == PREPARATIONS[0]:
        return
    mean, deviation = records.spelling.unit_statistics
    is_plain = set(mean) == {0.0} and set(deviation) == {1.0}
    for other, title in _PIXELS.items():
        # Without a mean and a deviation, standardised inputs are pixels from 0 to 1.
        if other == pixels or (is_plain and other == PREPARATIONS[0]):
            continue
        try:
            options = {**file.file.options, "pixels": other}
            opened = FileNetwork(open_network(replace(file.file, options=options)))
        except ModelError:
            continue  # not an option of this file
        yield Candidate(title, opened, records.spelling, other, rank=1)


def _file_of(model: Any) -> CheckedNetwork | None:
    """Return the opened file of a network that a runtime answers."""
    if isinstance(model, FileNetwork) and isinstance(model.opened, CheckedNetwork):
        return model.opened
    return None


def _proposals(records: Records, few: Int64[np.ndarray, "few"]) -> list[Proposal]:
    """Return every spelling besides the given one."""
    shape = tuple(records.images.shape[1:])
    standard = standard_proposals(shape[0], _statistics(records, few))
    proposals = [*variations(records.spelling, shape), *standard]
    if unit_of(records.images) == 1 and float(records.pixels(few).abs().max()) > 2:
        proposals += [in_larger_units(item) for item in standard if item.spelling.scale == 1]
    return [item for item in proposals if item.spelling != records.spelling]


def _combined(best: Candidate, records: Records) -> Iterator[Candidate]:
    """Yield a candidate with a second change."""
    for item in variations(best.spelling, tuple(records.images.shape[1:])):
        title = f"{best.title}, {item.title}"
        if item.spelling == records.spelling or (
            best.pixels and item.spelling.scale != best.spelling.scale
        ):
            continue
        yield replace(best, title=title, spelling=item.spelling, rank=item.rank + 3)


def _near(fits: Sequence[PreparationFit | None], given: PreparationFit) -> list[int]:
    """Return the places of the candidates that come near the best one, or the given preparation."""
    known = [fit for fit in (given, *fits) if fit is not None]
    accuracy = max(fit.key[0] for fit in known)
    surest = max(known, key=lambda fit: fit.key[1])
    places = []
    for place, fit in enumerate(fits):
        if fit is None:
            continue
        is_right = fit.key[0] >= accuracy - _NEAR_ACCURACY
        if is_right or paired_deviations(fit, surest) > -_NEAR_LOSS:
            places.append(place)
    return places


def _most_right(
    candidates: Sequence[Candidate], fits: Sequence[PreparationFit], given: PreparationFit
) -> Candidate | None:
    best = max((fit.key[0] for fit in fits), default=0.0)
    if best <= given.key[0]:
        return None
    # Of about equally right ones, the smallest change; of those, the smallest loss.
    near = [place for place in range(len(fits)) if fits[place].key[0] >= best - NEARLY]
    return candidates[min(near, key=lambda place: (candidates[place].rank, -fits[place].key[1]))]


def _surest(
    candidates: Sequence[Candidate], fits: Sequence[PreparationFit], given: PreparationFit
) -> Candidate | None:
    best = max(range(len(fits)), key=lambda place: fits[place].key[1], default=None)
    return None if best is None or fits[best].key[1] <= given.key[1] else candidates[best]


def paired_deviations(after: PreparationFit, before: PreparationFit) -> float:
    """Return the decrease of the mean loss, in deviations of the paired difference."""
    gain = before.loss - after.loss
    deviation = float(gain.std()) / math.sqrt(len(gain))
    return float(gain.mean()) / max(deviation, 1e-12)


def _statistics(
    records: Records, few: Int64[np.ndarray, "few"]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation per channel of a few records, for pixels from 0 to 1."""
    pixels = np.asarray(records.images[few], np.float64) / unit_of(records.images)
    mean, deviation = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    if not (deviation > 0).all():
        return None
    rounded = (tuple(np.round(values, 4).tolist()) for values in (mean, deviation))
    return next(rounded), next(rounded)
