import itertools

import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

from bitleak.attacks import LiRA
from bitleak.attacks.reference_sums import Sums, sums
from bitleak.attacks.shrink import (
    Student,
    fitted_prior,
    inverse_trigamma,
    log_density,
    log_survival,
    posterior,
)
from bitleak.metrics import auc, roc, tpr_at


def student(freedom, centre=0.0, deviation=1.0):
    return Student(*(np.full((1, 1), float(value)) for value in (centre, deviation, freedom)))


@pytest.mark.parametrize("freedom", [1.0, 5.3, 1000.0, 1e5])
@pytest.mark.parametrize("value", [-50.0, -3.0, 0.0, 2.0, 37.0, 300.0, 1e6])
def test_the_tail_is_that_of_many_digits(freedom, value):
    with mpmath.workdps(30):
        a, x = mpmath.mpf(freedom) / 2, freedom / (freedom + mpmath.mpf(value) ** 2)
        if value == 0:
            tail = mpmath.mpf(1) / 2
        else:
            tail = x**a * mpmath.sqrt(1 - x) / (2 * a * mpmath.beta(a, 0.5))
            tail *= mpmath.hyp2f1(1, a + 0.5, a + 1, x, maxterms=10**6)
        expected = float(mpmath.log(tail) if value >= 0 else mpmath.log1p(-tail))
    assert log_survival(np.full((1, 1), value), student(freedom))[0, 0] == pytest.approx(
        expected, rel=1e-9
    )


def test_the_most_certain_prior_is_a_normal_distribution():
    values = np.array([[-20.0, -2.0, 0.3, 5.0, 30.0]]).T
    of = Student(np.zeros((5, 1)), np.full((5, 1), 2.0), np.full((5, 1), 1e6))
    np.testing.assert_allclose(log_density(values, of), stats.norm(0, 2).logpdf(values), rtol=2e-3)
    np.testing.assert_allclose(log_survival(values, of), stats.norm(0, 2).logsf(values), rtol=5e-3)


@pytest.mark.parametrize("freedom", [0.3, 2.0, 99.0, 101.0, 3000.0, 1e6])
def test_the_density_is_that_of_many_digits(freedom):
    with mpmath.workdps(30):
        half, x = mpmath.mpf(freedom) / 2, mpmath.mpf("1.7")
        constant = (
            mpmath.loggamma(half + 0.5)
            - mpmath.loggamma(half)
            - mpmath.log(freedom * mpmath.pi) / 2
        )
        expected = float(constant - (half + 0.5) * mpmath.log1p(x**2 / freedom))
    assert log_density(np.full((1, 1), 1.7), student(freedom))[0, 0] == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("value", [1e-5, 0.3, 1.7, 40.0, 1e7])
def test_the_inverse_of_trigamma_is_its_inverse(value):
    assert float(mpmath.psi(1, inverse_trigamma(np.array([value]))[0])) == pytest.approx(
        value, rel=1e-9
    )


@pytest.mark.parametrize(("freedom", "strength"), list(itertools.product([3, 15], [2.0, 8.0])))
def test_the_prior_is_found_again(freedom, strength):
    rng = np.random.default_rng(0)
    variance = 3.0 * strength / rng.chisquare(strength, (100_000, 1))
    seen = variance * rng.chisquare(freedom, variance.shape) / freedom
    prior = fitted_prior(seen, np.full(len(seen), float(freedom)))
    assert prior.freedom[0] == pytest.approx(strength, rel=0.06)
    assert prior.variance[0] == pytest.approx(3.0, rel=0.02)


def test_records_that_spread_alike_get_the_pooled_variance():
    rng = np.random.default_rng(1)
    found = sums(rng.normal(0, 2, (6, 5000, 1)), np.ones((6, 5000), bool))
    variance, freedom = posterior(found)
    np.testing.assert_allclose(variance, 4.0, rtol=0.15)
    assert variance.std() < 0.1 * (found.squares / 5).std()
    assert freedom.min() > 100


def test_a_new_score_is_a_normal_whose_mean_and_variance_have_their_posterior():
    """The Student distribution against its definition as an integral over mean and variance."""
    scores, strength, scale = np.array([1.0, 1.4, 2.9]), 4.0, 0.8
    d, mean = 2, scores.mean()
    v = (strength * scale + d * scores.var(ddof=1)) / (strength + d)
    of_variance = stats.invgamma((strength + d) / 2, scale=(strength + d) * v / 2)

    def integrand(variance, value):
        return stats.norm(mean, np.sqrt(variance * (1 + 1 / 3))).pdf(value) * of_variance.pdf(
            variance
        )

    for value in (-2.0, 1.5, 6.0):
        expected = integrate.quad(integrand, 0, np.inf, args=(value,), epsabs=1e-13)[0]
        found = log_density(np.full((1, 1), value), student(strength + d, mean, np.sqrt(v * 4 / 3)))
        assert found[0, 0] == pytest.approx(np.log(expected), rel=1e-6)


def test_references_that_never_vary_have_a_finite_distribution():
    counts = np.full(3, 4)
    variance, freedom = posterior(Sums(counts, np.zeros((3, 1)), np.zeros((3, 1))))
    assert (variance > 0).all()
    assert np.isfinite(freedom).all()


def simulated(worlds, references, spread, seed=0):
    """Difficulty, exponential memory, and a deviation that is log-normal over the records."""
    rng = np.random.default_rng(seed)
    records = 12_000 if references < 64 else 6_000
    member = worlds["pairs"](rng, 2 * references + 2, records)
    memory, difficulty = rng.exponential(1.5, (records, 1)), rng.normal(4.0, 2.0, (records, 1))
    own = np.exp(spread * rng.standard_normal((records, 1)))
    confidence = (
        difficulty + memory * member[:, :, None] + own * rng.standard_normal((*member.shape, 1))
    )
    return worlds["view"](confidence[0], confidence[2:], member[2:]), member[0]


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("references", [4, 16, 64])
def test_shrunk_is_near_the_best_of_the_other_two(worlds, references, spread):
    view, member = simulated(worlds, references, spread)
    for mode in ("online", "offline"):
        curves = {
            form: roc(LiRA(mode, form)(view), member) for form in ("shrunk", "per_record", "fixed")
        }
        best_area = max(auc(curves["per_record"]), auc(curves["fixed"]))
        best_rate = max(tpr_at(curves["per_record"], 0.01), tpr_at(curves["fixed"], 0.01))
        assert auc(curves["shrunk"]) > best_area - 0.003
        assert tpr_at(curves["shrunk"], 0.01) > best_rate - 0.015


def test_shrunk_beats_both_where_records_differ_and_references_are_few(worlds):
    view, member = simulated(worlds, 4, 0.7)
    rate = {
        form: tpr_at(roc(LiRA("online", form)(view), member), 0.01)
        for form in ("shrunk", "per_record", "fixed")
    }
    assert rate["shrunk"] > 1.3 * max(rate["per_record"], rate["fixed"])


def test_offline_the_plain_distance_wins_where_steady_records_are_not_remembered_and_shrinking_is_not_why(
    worlds,
):
    """Shifts that go with the third power of the deviation: z-scores lose, with the true deviations as well."""
    rng = np.random.default_rng(0)
    own = np.exp(0.7 * rng.standard_normal((12_000, 1)))
    memory = own**3 * rng.exponential(1.0, own.shape)
    memory *= 1.5 / memory.mean()
    member = worlds["pairs"](rng, 64, len(own))
    difficulty = rng.normal(4.0, 2.0, own.shape)
    confidence = (
        difficulty + memory * member[:, :, None] + own * rng.standard_normal((*member.shape, 1))
    )
    view = worlds["view"](confidence[0], confidence[2:], member[2:])
    distance = confidence[0] - difficulty
    curves = {
        "shrunk": roc(LiRA("offline", "shrunk")(view), member[0]),
        "fixed": roc(LiRA("offline", "fixed")(view), member[0]),
        "true z": roc((distance / own)[:, 0], member[0]),
        "true distance": roc(distance[:, 0], member[0]),
    }
    areas = {name: auc(curve) for name, curve in curves.items()}
    assert areas["true distance"] > areas["true z"]
    assert areas["fixed"] > areas["shrunk"]
    assert areas["shrunk"] == pytest.approx(areas["true z"], abs=0.004)
    assert areas["fixed"] == pytest.approx(areas["true distance"], abs=0.004)
