"""Views of all targets, with the answers of every file on its own scale.

A quantized target that is attacked by full-precision references is brought to their scale instead: from its logits, or
by the affine map between the two standardised confidences. That is done for one target at a time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int64

from bitleak.answers.answer_signals import (
    AnswerSignals,
    check_population,
    row_signals,
    signals_of,
)
from bitleak.answers.attack_preparation import PreparedAttack
from bitleak.answers.model_answers import Answers
from bitleak.answers.target_views import (
    QUANTIZED,
    QUANTIZED_BY_MATCHED,
    ReferenceSignals,
    TargetSignals,
    TargetViews,
)
from bitleak.answers.variant_scales import (
    AS_THEY_CAME,
    VariantScale,
    file_temperature,
    scale_of_files,
)
from bitleak.attacks import (
    confidence_moments,
    signals_of_references,
    signals_of_targets,
    standardised,
)
from bitleak.core.spill import Scratch, release
from bitleak.core.types import LOG_PROBABILITY, LOGIT_SCALED
from bitleak.core.variants import FULL

ShowStep = Callable[[float, str], None]
"""Takes the fraction done of a stage, and the name of the stage."""


def views_of_answers(prepared: PreparedAttack, scratch: Scratch, on_step: ShowStep) -> TargetViews:
    """Return the views of all targets, once all answers are read; confidences are not standardised yet.

    Raises:
        DataError: An answer is not finite or otherwise impossible.
    """
    # Temperatures come first, since signals follow from logits that are divided by them.
    sources = _sources(prepared)
    scales = dict.fromkeys(sources, AS_THEY_CAME)
    if scale_of_files(prepared.answers, prepared.quantized) == "temperature":
        for variant, source in sources.items():
            check_population(source)
            scales[variant] = file_temperature(source)
        if QUANTIZED in scales and QUANTIZED_BY_MATCHED not in prepared.cases:
            scales[QUANTIZED] = scales[FULL]

    # Only signals that some attack reads are computed and kept.
    count = signals_of_targets(prepared.attacks)
    signals: dict[str, AnswerSignals] = {}
    for variant, source in sources.items():
        signals[variant] = signals_of(
            source,
            prepared.design.records,
            scratch,
            partial(_reading_step, on_step, f"reading {variant}"),
            count=count,
            scale=scales[variant],
        )
    views = _views(prepared, signals, scales, scratch)
    if len(set(scales.values())) < 2:
        return views
    assert prepared.quantized is not None  # there are two scales
    by_full = _QuantizedLogits(prepared.quantized, prepared.design.records, count, scales[FULL])
    return replace(views, quantized_by_full=by_full)


def standardised_views(
    views: TargetViews, prepared: PreparedAttack, scratch: Scratch
) -> TargetViews:
    """Return the views with standardised confidences, where these are the scale of the run; the signals are changed.

    Args:
        views: From `views_of_answers`, not used any more.
        prepared: The run.
        scratch: Where large arrays go.
    """
    if scale_of_files(prepared.answers, prepared.quantized) != "standardised":
        return views
    scales = {}
    for variant, signals in views.signals.items():
        moments = confidence_moments(list(signals.population[LOGIT_SCALED]))
        scales[variant] = VariantScale(moments=moments)
    if QUANTIZED in scales and QUANTIZED_BY_MATCHED not in prepared.cases:
        scales[QUANTIZED] = scales[FULL]

    # In place, after a copy of the signals that measure memorisation.
    changed = {}
    for variant, signals in views.signals.items():
        came = signals.log_probability
        if signals.correct.size:
            came = scratch.allocate(came.shape)
            came[:] = signals.log_probability
        for planes in (signals.pool, signals.population):
            _standardise(planes, scales[variant])
        changed[variant] = replace(signals, log_probability=came)
    views = _views(prepared, changed, scales, scratch)
    if len(set(scales.values())) < 2:
        return views
    by_full = _QuantizedConfidences(changed[QUANTIZED], scales[QUANTIZED], scales[FULL])
    return replace(views, quantized_by_full=by_full)


def scale_note(prepared: PreparedAttack, views: TargetViews) -> str:
    """Return a sentence on the scale of the answers."""
    scale = scale_of_files(prepared.answers, prepared.quantized)
    if scale == "raw":
        return (
            "The answers were compared as they came. Their scale, which anybody could divide out, is fitted to "
            f"population records, which {_lacking(prepared)} does not have."
        )
    how = (
        "Logits were divided by a temperature"
        if scale == "temperature"
        else "Confidences were standardised"
    )
    scales = ", ".join(f"{variant}: {of.text}" for variant, of in views.scales.items())
    return (
        f"{how}, fitted to the population ({scales}); targets are on the scale of their references."
    )


def _lacking(prepared: PreparedAttack) -> str:
    return "the file" if prepared.quantized is None else "one of the files"


def _sources(prepared: PreparedAttack) -> dict[str, Answers]:
    sources = {FULL: prepared.answers}
    if prepared.quantized is not None:
        sources[QUANTIZED] = prepared.quantized
    return sources


def _views(
    prepared: PreparedAttack,
    signals: Mapping[str, AnswerSignals],
    scales: Mapping[str, VariantScale],
    scratch: Scratch,
) -> TargetViews:
    count = signals_of_references(prepared.attacks)
    references = {}
    for variant, of_variant in signals.items():
        references[variant] = ReferenceSignals(of_variant, scratch, count)
    return TargetViews(prepared.design, prepared.labels, signals, references, scales)


def _standardise(planes: np.ndarray, scale: VariantScale) -> None:
    """Standardise the first two signals of every model, in place."""
    if scale.moments is None:
        return
    for row in range(planes.shape[1]):
        first = np.moveaxis(planes[: LOGIT_SCALED + 1, row], 0, -1)
        planes[: LOGIT_SCALED + 1, row] = np.moveaxis(standardised(first, scale.moments), -1, 0)
        release(planes)


@dataclass(frozen=True)
class _QuantizedLogits:
    """Signals of a quantized model on the temperature of full precision."""

    answers: Answers
    records: Int64[np.ndarray, "records"]
    count: int
    scale: VariantScale

    def __call__(self, row: int) -> TargetSignals:
        return TargetSignals(
            row_signals(self.answers, row, self.records, self.count, self.scale),
            row_signals(self.answers, row, None, self.count, self.scale),
        )


@dataclass(frozen=True)
class _QuantizedConfidences:
    """Signals of a quantized model, standardised by the moments of full precision."""

    signals: AnswerSignals
    stored: VariantScale
    scale: VariantScale

    def __call__(self, row: int) -> TargetSignals:
        return TargetSignals(
            self._mapped(self.signals.of(row)), self._mapped(self.signals.population_of(row))
        )

    def _mapped(self, signals: np.ndarray) -> np.ndarray:
        raw = np.array(signals)
        if self.stored.moments is not None:
            raw[..., LOGIT_SCALED] *= self.stored.moments.deviation
            raw[..., LOGIT_SCALED] += self.stored.moments.mean
        if self.scale.moments is None:
            raw[..., LOG_PROBABILITY] = -np.logaddexp(0.0, -raw[..., LOGIT_SCALED])
            return raw
        return standardised(raw, self.scale.moments)


def _reading_step(on_step: ShowStep, stage: str, done: float) -> None:
    on_step(done, stage)
