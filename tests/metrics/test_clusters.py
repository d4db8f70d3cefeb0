"""Clusters of dependent records: closed forms, copies as distinct records, and a small coverage."""

import numpy as np
import pytest
from scipy.special import ndtri

from bitleak.metrics import (
    auc_within_class,
    epsilon_measures,
    estimate_auc,
    estimate_metrics,
    estimate_proportion,
    estimate_tpr,
    measure,
    measure_at_threshold,
    roc,
    wilson,
)
from bitleak.metrics.accuracy_and_size import accuracy_on_members
from bitleak.metrics.clusters import (
    clustered_figure,
    dense_clusters,
    design_effect,
    effective_records,
    single_records,
)

FPRS = (0.02, 0.2)
COPIES = 5


@pytest.fixture
def world():
    """Scores of 3 targets on 400 records, and of the same targets at fp32."""
    rng = np.random.default_rng(3)
    member = rng.random((3, 400)) < 0.5
    baseline = rng.normal(size=member.shape) + member
    return baseline - 0.4 * member + 0.3 * rng.normal(size=member.shape), member, baseline


def copied(*arrays):
    return [np.repeat(array, COPIES, axis=-1) for array in arrays]


def ends(measures):
    numbers = []
    for metric in measures.aggregate:
        for figure in (measures.aggregate[metric], *measures.targets[metric]):
            numbers.append([figure.value, figure.low, figure.high, figure.p_value])
    return np.array(numbers, np.float64)


def test_the_variance_of_a_mean_is_that_of_the_means_of_its_clusters():
    rng = np.random.default_rng(0)
    values, clusters = rng.normal(size=60), np.repeat(np.arange(12), 5)
    every = np.ones(60, bool)
    figure = clustered_figure((values - values.mean()) / 60, every, clusters)
    means = values.reshape(12, 5).mean(axis=1)
    assert figure.members.unbiased == pytest.approx(means.var(ddof=1) / 12, rel=1e-12)


def test_unequal_clusters_have_the_variance_of_leaving_one_out():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 21])
    values, every = rng.normal(size=40) + clusters, np.ones(40, bool)
    figure = clustered_figure((values - values.mean()) / 40, every, clusters)
    without = np.array([values[clusters != one].mean() for one in range(6)])
    naive = 5 / 6 * ((without - values.mean()) ** 2).sum()
    assert figure.members.unbiased == pytest.approx(naive, rel=1e-12)


def test_copies_in_clusters_have_every_interval_of_the_distinct_records(world):
    scores, member, baseline = world
    distinct = measure(scores, member, fprs=FPRS, baseline=baseline, seed=2)
    scores, member, baseline = copied(*world)
    clusters = np.repeat(np.arange(400), COPIES)
    options = {"fprs": FPRS, "baseline": baseline, "seed": 2}
    together = measure(scores, member, clusters=clusters, **options)
    np.testing.assert_allclose(ends(together), ends(distinct), rtol=1e-9, atol=1e-12)
    assert not np.isnan(ends(together)[:, :3]).any()
    naive = measure(scores, member, **options).aggregate["auc"]
    proper = distinct.aggregate["auc"]
    assert naive.high - naive.low < 0.5 * (proper.high - proper.low)


def test_copies_have_the_rates_at_a_threshold_of_the_distinct_records(world):
    scores, member, _ = world
    thresholds = np.array([1.0, 1.5, 99.0])
    options = {"fpr": 0.1, "priors": (0.1,)}
    distinct = measure_at_threshold(scores, member, thresholds, **options)
    scores, member = copied(scores, member)
    clusters = np.repeat(np.arange(400), COPIES)
    together = measure_at_threshold(scores, member, thresholds, clusters=clusters, **options)
    for metric, figures in distinct.items():
        for figure, again in zip(figures, together[metric], strict=True):
            if figure is not None:
                expected = figure.value, figure.low, figure.high
                assert (again.value, again.low, again.high) == pytest.approx(expected, rel=1e-9)


def test_clusters_of_single_records_change_no_bit(world):
    scores, member, baseline = world
    alone = np.random.default_rng(0).permutation(400) - 7
    options = {"fprs": FPRS, "baseline": baseline}
    assert measure(scores, member, clusters=alone, **options) == measure(scores, member, **options)
    bounds = {"seed": 1, "delta": 1e-5, "comparisons": 2}
    with_clusters = epsilon_measures(scores, member, clusters=alone, **bounds)
    assert with_clusters == epsilon_measures(scores, member, **bounds)
    rates = {"fpr": 0.1, "priors": (0.1,)}
    at = scores, member, np.array([1.0, 1.5, 2.0])
    assert measure_at_threshold(*at, clusters=alone, **rates) == measure_at_threshold(*at, **rates)


def test_the_numbers_of_clusters_and_the_order_of_records_do_not_matter(world):
    scores, member, _ = world
    rng = np.random.default_rng(5)
    clusters, order = rng.integers(0, 90, 400), rng.permutation(400)
    names = rng.permutation(1000)[:90]
    first = estimate_metrics(scores, member, fprs=FPRS, balanced=False, clusters=clusters)
    second = estimate_metrics(
        scores[:, order],
        member[:, order],
        fprs=FPRS,
        balanced=False,
        clusters=names[clusters[order]],
    )
    for metric, figures in first.items():
        for one, other in zip(figures, second[metric], strict=True):
            assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-9)


def test_a_share_of_copies_has_the_interval_of_the_distinct_records(world):
    _, member, _ = world
    correct, clusters = np.arange(400) % 7 > 0, np.repeat(np.arange(400), COPIES)
    estimate = estimate_proportion(*copied(correct), clusters=dense_clusters(clusters))
    assert (estimate.low, estimate.high) == pytest.approx(wilson(int(correct.sum()), 400))
    truth = np.tile(correct, (3, 1)).astype(float)
    distinct = accuracy_on_members(truth, member)
    together = accuracy_on_members(*copied(truth, member), clusters=clusters)
    np.testing.assert_allclose(ends(together)[:, :3], ends(distinct)[:, :3], rtol=1e-9)


def test_copies_within_classes_have_the_interval_of_the_distinct_records(world):
    scores, member, _ = world
    labels = np.arange(400) % 4
    distinct = auc_within_class(scores[0], member[0], labels)
    clusters = np.repeat(np.arange(400), COPIES)
    together = auc_within_class(*copied(scores[0], member[0], labels), clusters)
    assert (together.low, together.high) == pytest.approx((distinct.low, distinct.high), rel=2e-3)


def test_complete_separation_counts_pairs_of_clusters():
    member = np.repeat(np.arange(20) % 2 == 0, 10)
    estimate = estimate_auc(roc(member + 0.0, member, np.repeat(np.arange(20), 10)))
    assert (estimate.low, estimate.high) == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    one_cluster = estimate_auc(roc(member + 0.0, member, np.where(member, 0, np.arange(200))))
    assert one_cluster.low == pytest.approx(0.025)


def test_a_group_in_one_cluster_leaves_an_auc_open():
    rng = np.random.default_rng(0)
    member = np.arange(200) < 100
    scores = rng.normal(size=200) + member
    estimate = estimate_auc(roc(scores, member, np.where(member, 0, np.arange(200))))
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    rate = estimate_tpr(roc(scores, member, np.where(member, 0, np.arange(200))), 0.1)
    assert (rate.low, rate.high, rate.pairing) == (-np.inf, np.inf, 1.0)


def test_effective_numbers():
    clusters = np.repeat(np.arange(3), [1, 2, 3])
    every = np.ones(6, bool)
    assert effective_records(every, clusters) == pytest.approx(36 / 14)
    assert design_effect(np.zeros(6), every, clusters) == pytest.approx(14 / 6)
    assert effective_records(every, None) == 6


def test_one_record_of_each_cluster_is_drawn_evenly():
    clusters = np.repeat(np.arange(50), 4)
    draws = np.array([single_records(clusters, seed) for seed in range(200)])
    assert (clusters[draws] == np.arange(50)).all()
    shares = np.bincount(draws.ravel() % 4) / draws.size
    assert shares == pytest.approx([0.25] * 4, abs=0.02)


def test_epsilon_stays_below_the_truth_if_records_come_twenty_times():
    above, naive, records = 0, 0, 2000
    clusters = np.repeat(np.arange(records // 20), 20)
    for seed in range(60):
        rng = np.random.default_rng([seed, 18])
        member = rng.random(records // 20) < 0.5
        answers = member ^ (rng.random(records // 20) < 1 / (1 + np.e))  # epsilon = 1
        scores, truth = (np.repeat(array, 20)[None] for array in (answers + 0.0, member))
        options = {"seed": 0, "delta": 0.0, "comparisons": 1}
        above += (
            epsilon_measures(scores, truth, clusters=clusters, **options)["epsilon"][0].value > 1
        )
        naive += epsilon_measures(scores, truth, **options)["epsilon"][0].value > 1
    assert above <= 6
    assert naive >= 15


def test_a_target_with_too_few_clusters_has_no_bound_on_epsilon():
    member, clusters = np.arange(40)[None] < 20, np.arange(40) // 20
    measures = epsilon_measures(
        member + 0.0, member, seed=0, delta=0.0, comparisons=1, clusters=clusters
    )
    assert [measure.value for measure in measures["epsilon"]] == [0.0, 0.0]


def test_near_copies_of_mixed_numbers_are_covered_and_were_not():
    sizes = np.concatenate([np.ones(120, int), np.full(36, 5), np.full(12, 20)])
    clusters, shift = np.repeat(np.arange(len(sizes)), sizes), float(ndtri(0.7) * np.sqrt(2))
    held, naive = 0, 0
    for seed in range(150):
        rng = np.random.default_rng([seed, 8])
        member = (rng.random(len(sizes)) < 0.5)[clusters]
        noise = rng.normal(size=len(sizes))[clusters] + 0.3 * rng.normal(size=len(clusters))
        scores = shift * member + noise / np.sqrt(1.09)
        for given in (clusters, None):
            estimate = estimate_auc(roc(scores, member, given))
            covered = estimate.low <= 0.7 <= estimate.high
            held, naive = held + covered * (given is not None), naive + covered * (given is None)
    assert 0.90 <= held / 150 <= 0.99
    assert naive / 150 < 0.7


def test_clusters_of_another_length_are_refused(world):
    scores, member, _ = world
    with pytest.raises(ValueError, match="clusters must be one per record, 400, got"):
        measure(scores, member, fprs=FPRS, clusters=np.arange(399))
