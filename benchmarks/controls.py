"""The positive control in worlds where the truth is known: what attacks reach of a known leak.

    python benchmarks/controls.py [--audits 1000] [--records 400]

A record has a difficulty N(0, 1.5^2), a reference answers with it, `effect` more on its members, and
noise of deviation `spread`, 8 references per side. The control is a target that memorises by
`STRENGTH` deviations. Printed is, per world and attack, the mean AUC of the control with the mean of an
adversary who knows every record's distribution, and the share of audits in which the report calls it
found, partly found or not found. The seeds are fixed: 0, 1, ... by audit.
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bitleak.attacks import (
    STRENGTH,
    attack_view,
    expand,
    negative_control,
    perfect_auc,
    positive_control,
    two_class_signals,
)
from bitleak.core.types import Measure, Row
from bitleak.core.variants import POSITIVE
from bitleak.metrics import estimate_auc, roc
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.results_table import tabulate

REFERENCES = 16
ATTACKS = (
    "lira-online-fixed",
    "lira-online-shrunk",
    "lira-offline-one_sided-fixed",
    "rmia-online",
    "threshold",
)


@dataclass(frozen=True)
class World:
    """Answers of the references.

    Attributes:
        effect: Members' confidence above others', in nats.
        spread: Deviation between models, in nats.
        difficulty: Deviation between records, in nats.
    """

    effect: float = 1.0
    spread: float = 1.0
    difficulty: float = 1.5


WORLDS = {
    "usual": World(),
    "strong": World(effect=3.0),
    "weak": World(effect=0.3),
    "no effect": World(effect=0.0),
    "hard and easy records": World(difficulty=5.0),
    "constant": World(0.0, 0.0, 0.0),
    "lookup table": World(40.0, 0.0, 0.0),
}


def audited(world: World, seed: int, records: int) -> dict[str, tuple[float, float, str]]:
    """Return the AUC of the positive and of the negative control, and the verdict, by attack."""
    rng = np.random.default_rng([seed, 6])
    inside = rng.random((REFERENCES, records)).argsort(axis=0) < REFERENCES // 2
    hard = world.difficulty * rng.standard_normal(records)
    answers = hard + world.effect * inside + world.spread * rng.standard_normal(inside.shape)
    outside = world.difficulty * rng.standard_normal(200) + np.zeros((REFERENCES, 1))
    outside = outside + world.spread * rng.standard_normal(outside.shape)
    view = attack_view(
        target=two_class_signals(answers[0][:, None]),
        references=two_class_signals(answers[..., None]),
        member=inside,
        use=np.ones_like(inside),
        population_target=two_class_signals(outside[0][:, None]),
        population_references=two_class_signals(outside[..., None]),
        labels=np.zeros(records, np.int64),
    )
    member = rng.permutation(records) < records // 2
    positive = positive_control(view, member, rng)
    negative = negative_control(view, rng)
    figures = {}
    for attack in [form for name in ATTACKS for form in expand(name)]:
        found = estimate_auc(roc(attack(positive), member))
        noise = estimate_auc(roc(attack(negative), member)).value
        measure = Measure(found.value, found.low, found.high)
        reference = "fp32" if attack.uses_references else ""
        row = Row(POSITIVE, "", None, attack.name, reference, "all", "auc", measure)
        verdict = judge_positive_control(tabulate([row]), attack.name, reference, 0.01)
        figures[attack.name] = (found.value, noise, verdict.status)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--records", type=int, default=400)
    options = parser.parse_args()
    print(f"strength {STRENGTH:g}, AUC {perfect_auc():.3f} for who knows every distribution")
    print("| references | attack | positive | negative | found, partly, not (%) |")
    print("|---|---|---|---|---|")
    start = time.process_time()
    for name, world in WORLDS.items():
        audits = [audited(world, seed, options.records) for seed in range(options.audits)]
        for attack in audits[0]:
            values = np.array([audit[attack][:2] for audit in audits]).mean(axis=0)
            verdicts = Counter(audit[attack][2] for audit in audits)
            shares = [
                f"{100 * verdicts[status] / len(audits):.1f}"
                for status in ("found", "partly found", "not found")
            ]
            line = f"| {name} | `{attack}` | {values[0]:.3f} | {values[1]:.3f} |"
            print(f"{line} {', '.join(shares)} |", flush=True)
    print(f"({time.process_time() - start:.0f} CPU seconds)")


if __name__ == "__main__":
    main()
