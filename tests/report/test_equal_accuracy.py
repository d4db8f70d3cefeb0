"""Sentences on noise as accurate as a variant: what is compared, and whether it is equally accurate."""

import pytest

from bitleak.core.types import Measure, Row
from bitleak.report import tabulate
from bitleak.report.sections.equal_accuracy import utility_section

RATE, ATTACK = "tpr@0.01", "lira-online-fixed"


def finding(make, *, scale=0.2, gap=0.001, over=(0.0, -0.01, 0.01), verdict="not distinguishable"):
    """The sentence of a variant; `over` is its test accuracy over the noise's, with the interval."""

    def of(variant, metric, measure, attack=ATTACK):
        reference = "fp32" if attack else ""
        return Row(variant, "", None, attack, reference, "all", metric, measure)

    paired = Measure(
        -0.01,
        -0.02,
        0.0,
        difference=-0.01,
        difference_low=-0.02,
        difference_high=0.0,
        verdict=verdict,
    )
    value, low, high = over
    accuracy = Measure(value, low, high, difference=value, difference_low=low, difference_high=high)
    rows = [
        *make.rows(),
        of("rtn-2", f"{RATE}_over_noise", paired),
        of("rtn-2", "auc_over_noise", paired),
        of("rtn-2", "test_accuracy_over_noise", accuracy, ""),
        of("noise@rtn-2", RATE, Measure(0.06, 0.05, 0.07)),
        of("noise@rtn-2", "noise_scale", Measure(scale), ""),
        of("noise@rtn-2", "noise_accuracy_gap", Measure(gap), ""),
    ]
    section = utility_section(tabulate(rows), make.summary(rows))
    return section.sentences[0]


@pytest.mark.parametrize(
    ("verdict", "clause"),
    [
        ("lower", "it leaks less than full precision"),
        ("not distinguishable", "it is not distinguishable from full precision"),
        ("higher", "it leaks more than full precision"),
    ],
)
def test_a_variant_compared_with_full_precision_itself_is_not_said_to_leak_as_noise_does(
    make, verdict, clause
):
    sentence = finding(make, scale=0.0, verdict=verdict)
    assert sentence.startswith(
        f"rtn-2 is as accurate as fp32 within error, so that no noise is equally accurate; {clause}"
    )
    assert "fp32 0.060 [0.050, 0.070]" in sentence
    assert "than noise" not in sentence
    assert "from noise" not in sentence


def test_a_match_that_holds_on_the_test_records_has_no_doubt(make):
    sentence = finding(make)
    assert sentence.startswith(
        "rtn-2 is not distinguishable from noise of equal accuracy (TPR at 1 % FPR 0.050"
    )
    assert sentence.endswith("not distinguishable).")


@pytest.mark.parametrize(
    ("over", "clause"),
    [
        (
            (-0.02, -0.03, -0.01),
            "-2.0 [-3.0, -1.0] points over the noise's, so this is no comparison at equal accuracy.",
        ),
        ((0.02, -0.01, 0.05), "+2.0 [-1.0, 5.0] points over the noise's, which may be chance."),
        ((0.004, 0.003, 0.005), "not distinguishable)."),
    ],
)
def test_the_warning_looks_at_the_test_records(make, over, clause):
    assert clause in finding(make, over=over)
    assert ("over the noise's" in finding(make, over=over)) == (abs(over[0]) > 0.005)


def test_noise_that_could_not_be_matched_is_no_comparison_at_equal_accuracy(make):
    assert "off in accuracy by -3.0 points where it was matched" in finding(make, gap=-0.03)
