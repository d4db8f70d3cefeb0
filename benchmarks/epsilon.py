"""Lower bounds on epsilon as a share of the truth, for mechanisms whose epsilon is known.

    python benchmarks/epsilon.py [--records 50000] [--runs 5]

- Randomised response: every record answers its membership, correctly with odds e^epsilon.
- A Gaussian mechanism: members score N(shift, 1) and others N(0, 1), whose epsilon at a delta is
  exact (Balle and Wang 2018, Theorem 8); the shift is found for the epsilon of the row.

Half of the records are members, by independent coins, so that both kinds of bound apply. The mean
bound over the runs is printed as a share of the truth, with the number of runs in which it was
above the truth, at most 5 % expected. The one-run bound gets the number of guesses beforehand: all
records where each answer is as good as any other (randomised response); for the normal scores a
twentieth, a hundredth and a thousandth of the records on either side, all three paid for.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from bitleak.metrics import epsilon_bounds, one_run_bounds

EPSILONS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
GAUSSIAN = (0.5, 1.0, 2.0, 4.0)
DELTAS = (1e-5, 1e-3)
SHARES = (0.05, 0.01, 0.001)


def randomised_response(rng: np.random.Generator, member: np.ndarray, epsilon: float) -> np.ndarray:
    """Return answers with ties broken at random."""
    answers = member ^ (rng.random(len(member)) < 1 / (1 + math.exp(epsilon)))
    return answers + 0.5 * rng.random(len(member))


def gaussian_epsilon(shift: float, delta: float) -> float:
    """Return the epsilon of N(shift, 1) against N(0, 1)."""

    def beyond(epsilon: float) -> float:
        log_second = epsilon + norm.logcdf(-shift / 2 - epsilon / shift)
        return norm.cdf(shift / 2 - epsilon / shift) - math.exp(log_second) - delta

    return brentq(beyond, 0, 100) if beyond(0) > 0 else 0.0


def shift_for(epsilon: float, delta: float) -> float:
    """Return the shift at which a Gaussian mechanism has this epsilon."""
    return brentq(lambda shift: gaussian_epsilon(shift, delta) - epsilon, 1e-3, 8)


def judged(
    scores_of: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    epsilon: float,
    delta: float,
    *,
    records: int,
    runs: int,
    whole: bool,
) -> list[str]:
    """Return the mean share of the truth and the number of runs above it, for both kinds of bound."""
    lines = []
    for run in range(runs):
        rng = np.random.default_rng([run, round(1000 * epsilon)])
        member = rng.random(records) < 0.5
        scores = scores_of(rng, member)[None]
        half = int(0.49 * records)  # the coins decide how many members there are
        guesses = (
            [(half, half)]
            if whole
            else [(int(share * records), int(share * records)) for share in SHARES]
        )
        coarse = (
            np.floor(scores) if whole else scores
        )  # no threshold is better than the one between the two answers
        halves = epsilon_bounds(coarse, member, seed=run, delta=delta)[0].epsilon
        one_run = one_run_bounds(scores, member, guesses=guesses, independent=True, delta=delta)[
            0
        ].epsilon
        lines.append((halves, one_run))
    bounds = np.array(lines)
    return [
        f"{mean / epsilon:.2f} ({above})"
        for mean, above in zip(bounds.mean(0), (bounds > epsilon).sum(0), strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    size = {"records": options.records, "runs": options.runs}
    print(
        "| mechanism | delta | epsilon | `epsilon_bounds` | `one_run_bounds` |\n|---|---|---|---|---|"
    )
    for epsilon in EPSILONS:
        answers = judged(
            lambda rng, m, e=epsilon: randomised_response(rng, m, e),
            epsilon,
            0.0,
            whole=True,
            **size,
        )
        print(f"| randomised response | 0 | {epsilon:g} | {' | '.join(answers)} |", flush=True)
    for delta in DELTAS:
        for epsilon in GAUSSIAN:
            shift = shift_for(epsilon, delta)
            normal = judged(
                lambda rng, m, s=shift: s * m + rng.standard_normal(len(m)),
                epsilon,
                delta,
                whole=False,
                **size,
            )
            print(
                f"| Gaussian, shift {shift:.2f} | {delta:g} | {epsilon:g} | {' | '.join(normal)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
