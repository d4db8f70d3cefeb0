"""A made-up audit of the shape of a real one: 4 quantizers, 3 precisions, 3 adversaries, 6 attacks, 8 targets."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from bitleak.core.types import Measure, Row
from bitleak.report import RocCurve, Summary, VariantSummary, headline, write_all

TARGETS = 8
FPRS = (0.001, 0.01)
QUANTIZERS = {"rtn": (0.3, 3.0), "adaround": (0.02, 0.6), "brecq": (0.01, 0.35), "obc": (0.02, 0.8)}
LOSS = {16: 0.02, 4: 0.25, 3: 1.0}
BITS = {16: "4", 4: "2", 3: "1.58"}
ATTACKS = {
    "lira-online-per_record": 0.8,
    "lira-online-fixed": 1.0,
    "lira-online-paper": 0.9,
    "lira-offline-one_sided-fixed": 0.6,
    "lira-offline-two_sided-fixed": 0.5,
    "threshold": 0.55,
}
REFERENCES = {"fp32": 0.55, "recalibrated": 0.85, "matched": 1.0}
SHIFT = 0.9
"""Distance between the scores of members and non-members at full precision under the best attack."""


def variants():
    yield "fp32", "", None, 0.0
    for quantizer, (_, scale) in QUANTIZERS.items():
        for levels, loss in LOSS.items():
            yield f"{quantizer}-{BITS[levels]}", quantizer, levels, scale * loss


def measured(value, half, *, baseline=None, low=0.0, high=1.0):
    """A measure with an interval of +- half, compared with the baseline."""
    value = float(np.clip(value, low, high))
    ends = {
        "low": max(low, value - half),
        "high": min(high, value + half),
        "std": half,
        "interval": "records",
    }
    if baseline is None:
        return Measure(value, **ends)
    difference = value - baseline
    verdict = (
        "not distinguishable"
        if abs(difference) <= half
        else "lower"
        if difference < 0
        else "higher"
    )
    paired = {
        "difference": difference,
        "difference_low": difference - half,
        "difference_high": difference + half,
    }
    return Measure(value, verdict=verdict, **ends, **paired)


def separation(attack, reference, damage):
    """How far members score above non-members: less for a damaged model, still less for a naive adversary."""
    naive = 1.0 if not reference else 1 - (1 - REFERENCES[reference]) * min(1, 2 * damage)
    return SHIFT * ATTACKS[attack] * naive * max(0.0, 1 - 0.45 * damage)


def attacked(variant, quantizer, levels, attack, reference, shift, base, targets, rng):
    figures = {"auc": norm.cdf(shift / np.sqrt(2)), "balanced_accuracy": norm.cdf(shift / 2)}
    figures |= {f"tpr@{fpr:g}": norm.cdf(shift + norm.ppf(fpr)) for fpr in FPRS}
    origin = {"auc": norm.cdf(base / np.sqrt(2)), "balanced_accuracy": norm.cdf(base / 2)}
    origin |= {f"tpr@{fpr:g}": norm.cdf(base + norm.ppf(fpr)) for fpr in FPRS}
    for target in targets:
        for metric, value in figures.items():
            half = {"tpr@0.001": 0.003, "tpr@0.01": 0.012}.get(metric, 0.011)
            noise = rng.normal(0, half / 4)
            baseline = None if variant in ("fp32", "control") else float(origin[metric])
            value = 0.0 if metric == "tpr@0.001" and value < 0.0022 else value + noise
            yield Row(variant, quantizer, levels, attack, reference, target, metric,
                      measured(value, half, baseline=baseline))  # fmt: skip


def references_of(attack):
    return ("",) if attack == "threshold" else tuple(REFERENCES)


def synthetic_rows():
    rng = np.random.default_rng(0)
    targets = [*[str(index) for index in range(TARGETS)], "all"]
    rows = []
    for variant, quantizer, levels, damage in variants():
        for metric, full, cost in (
            ("test_accuracy", 0.72, 0.16),
            ("train_accuracy", 0.999, 0.17),
            ("agreement", 1.0, 0.2),
        ):
            baseline = None if variant == "fp32" else full
            measure = measured(max(0.1, full - cost * damage), 0.012, baseline=baseline)
            rows += [
                Row(variant, quantizer, levels, "", "", target, metric, measure)
                for target in targets
            ]
        size = 1_240_000 if levels is None else 18_000 + 310_000 * np.log2(levels) / 8
        rows.append(
            Row(variant, quantizer, levels, "", "", "all", "bytes", Measure(float(round(size))))
        )
        for attack in ATTACKS:
            for reference in references_of(attack):
                shift, base = (
                    separation(attack, reference, damage),
                    separation(attack, reference, 0.0),
                )
                rows += attacked(
                    variant, quantizer, levels, attack, reference, shift, base, targets, rng
                )
    for attack in ATTACKS:
        reference = references_of(attack)[0]
        rows += attacked("control", "", None, attack, reference, 0.0, 0.0, targets, rng)
    return rows


def synthetic_curves():
    fpr = np.concatenate([[0.0], np.geomspace(5e-4, 1, 120)])
    curves = []
    for variant, quantizer, levels, damage in variants():
        for attack in ATTACKS:
            for reference in references_of(attack):
                shift = separation(attack, reference, damage)
                points = np.column_stack([fpr, norm.cdf(shift + norm.ppf(fpr))])
                curves.append(
                    RocCurve(variant, quantizer, levels, attack, reference, "all", points)
                )
    return curves


def synthetic_summary(rows, **changes):
    attack, reference = headline(rows)
    names = [
        VariantSummary(
            name,
            quantizer,
            levels,
            32.0 if levels is None else round(float(np.log2(levels)) + 0.21, 2),
            1_240_000 if levels is None else round(18_000 + 310_000 * float(np.log2(levels)) / 8),
        )
        for name, quantizer, levels, _ in variants()
    ]
    values = {
        "title": "cifar10-small",
        "dataset": "CIFAR-10 (4,000 records, class-balanced)",
        "records": 4000,
        "members": 2000,
        "non_members": 2000,
        "population_records": 1000,
        "test_records": 5000,
        "classes": 10,
        "models": 20,
        "mode": "population",
        "targets": TARGETS,
        "references": 9,
        "network": "cnn (width 16)",
        "parameters": 308_320,
        "training": "SGD, momentum 0.9, weight decay 5e-4, cosine from 0.1, batch 128, 36 epochs, flips",
        "calibration": "512 members of the model",
        "calibration_records": 512,
        "fprs": FPRS,
        "headline_attack": attack,
        "headline_reference": reference,
        "headline_fpr": 0.01,
        "expected_false_positives": 20.0,
        "presets": (
            "quick (adaround, brecq): few steps; accuracy is below what the quantizer can do",
        ),
        "queries": 2,
        "interval": "95 %: resampling of records (400 draws), the same draw for all targets",
        "versions": {"bitleak": "0.1.0", "torch": "2.9.0", "numpy": "2.4.6", "python": "3.11.2"},
        "machine": "2 cores, x86-64, no accelerator",
        "seeds": {"root": 0},
        "variants": tuple(names),
    }
    return Summary(**{**values, **changes})


def small_rows(
    *, names=("rtn-2", "rtn", "lira-online-fixed"), verdict="lower", control=(0.48, 0.52), area=0.7
):
    """Full precision, one quantized variant and the control under one attack; names as given."""
    variant, quantizer, attack = names
    rows = []
    for name, kind, levels, shown in (
        ("fp32", "", None, ""),
        (variant, quantizer, 4, verdict),
        ("control", "", None, ""),
    ):
        low, high = control if name == "control" else (area - 0.02, area + 0.02)
        compared = (
            {"difference": -0.0123, "difference_low": -0.02, "difference_high": -0.01}
            if shown
            else {}
        )
        ends = {"low": low, "high": high, "verdict": shown, **compared}
        rate = Measure(0.05, **{**ends, "low": 0.04, "high": 0.06})
        rows += [Row(name, kind, levels, attack, "fp32", "all", "auc", Measure((low + high) / 2, **ends)),
                 Row(name, kind, levels, attack, "fp32", "all", "tpr@0.01", rate)]  # fmt: skip
        if name != "control":
            rows.append(
                Row(
                    name,
                    kind,
                    levels,
                    "",
                    "",
                    "all",
                    "test_accuracy",
                    Measure(0.9, verdict=shown, **compared),
                )
            )
    return rows


@pytest.fixture(scope="session")
def rows():
    return synthetic_rows()


@pytest.fixture(scope="session")
def curves():
    return synthetic_curves()


@pytest.fixture(scope="session")
def summary(rows):
    return synthetic_summary(rows)


@pytest.fixture(scope="session")
def folder(rows, curves, summary, tmp_path_factory):
    """The synthetic audit's output folder, written once."""
    folder = tmp_path_factory.mktemp("audit")
    write_all(rows, curves, summary, folder)
    return folder


@pytest.fixture(scope="session")
def make():
    """Builders of small audits."""
    return SimpleNamespace(rows=small_rows, summary=synthetic_summary)
