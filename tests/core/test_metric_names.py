import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitleak.core.metric_names import AUC, Metric

NAMES = (
    "auc",
    "balanced_accuracy",
    "epsilon",
    "test_accuracy",
    "train_accuracy",
    "agreement",
    "bytes",
    "bits_per_weight",
    "noise_scale",
    "noise_accuracy_gap",
    "calibration_detectable_auc",
    "auc_within_class",
    "tpr@0.001",
    "tpr@1e-05",
    "tpr_within_class@0.01",
    "tpr_chosen@0.01",
    "fpr_chosen@0.001",
    "precision@0.01,prior0.1",
    "precision@1e-05,prior0.001",
    "auc_over_best",
    "tpr@0.01_over_best",
    "tpr@0.001_over_noise",
    "balanced_accuracy_over_noise",
    "test_accuracy_over_noise",
)
words = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True).filter(
    lambda word: "over" not in word
)
rates = st.floats(1e-9, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_an_audit_comes_back(name):
    assert str(Metric.parse(name)) == name


def test_the_parts_of_a_name_are_numbers():
    assert Metric.parse("precision@1e-05,prior0.1") == Metric("precision", fpr=1e-5, prior=0.1)
    assert Metric.parse("tpr@0.01_over_best") == Metric("tpr", fpr=0.01).compared_with("best")
    assert Metric.parse("auc") == AUC


@given(base=words, fpr=st.none() | rates, prior=st.none() | rates, over=st.just("") | words)
def test_any_metric_comes_back_from_its_name(base, fpr, prior, over):
    metric = Metric(base, fpr, None if fpr is None else prior, over)
    assert Metric.parse(str(metric)) == metric
    assert metric.fpr is None or metric.fpr == pytest.approx(fpr, rel=1e-5)


def test_a_rate_of_more_digits_than_its_text_has_is_the_rate_of_the_text():
    assert Metric("tpr", fpr=0.00123456789) == Metric.parse("tpr@0.00123457")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "AUC",
        "tpr@",
        "tpr@x",
        "tpr@0.010",
        "tpr@nan",
        "tpr@-0.1",
        "tpr,prior0.1",
        "a b",
        "auc\n",
    ],
)
def test_names_that_no_audit_makes_are_refused(name):
    with pytest.raises(ValueError, match=r"a metric's name must be .*, got "):
        Metric.parse(name)


@pytest.mark.parametrize(
    "parts", [("auc_over_best",), ("tpr@0.1",), ("precision", None, 0.1), ("tpr", float("nan"))]
)
def test_parts_that_would_be_read_as_others_are_refused(parts):
    with pytest.raises(ValueError, match="a metric's name must be"):
        Metric(*parts)
