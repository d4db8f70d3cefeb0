"""The positive control in worlds where the truth is known: what attacks reach of a known leak.

    python benchmarks/controls.py [--audits 1000] [--records 400] [--world "as the demo"]

A record has a difficulty N(0, 1.5^2), a reference answers with it, `effect` more on its members, and
noise of deviation `spread`, 8 references per side. The control is a target that memorises by
`STRENGTH` deviations. Printed is, per world and attack, the mean AUC of the control, of a control with
each record's own deviation in place of the pooled one (`own`), and of a target that is trained as the
references are (`real`); the mean AUC of the negative control; and the share of audits in which the report
calls the positive control found, partly found or not found. The seeds are fixed: 0, 1, ... by audit.

- `as the demo`: deviations differ between records by a factor of 1.3, and the members of a tenth of
  the records are moved by 2 deviations, the others by a tenth of one: measured on `bitleak demo`, where
  the references' IN and OUT means differ by 0.2 deviations in the median, in a third with the other sign.
- `as cifar10-small`: deviations differ by a factor of 1.6 and effects by 0.8 around 1.
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
from bitleak.attacks.positive_control import SMALLEST_DEVIATION
from bitleak.core.types import SIGNALS, AttackView, Measure, Row
from bitleak.core.variants import POSITIVE
from bitleak.metrics import estimate_auc, roc
from bitleak.report.memorising_target import judge_positive_control
from bitleak.report.results_table import tabulate

REFERENCES = 16
LOGIT_SCALED = SIGNALS.index("logit_scaled")
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
        varied: Deviation of the logarithm of `spread` between records.
        effects: Deviation of the effect between records, in nats.
        exposed: Share of the records whose effect is `STRENGTH` deviations.
    """

    effect: float = 1.0
    spread: float = 1.0
    difficulty: float = 1.5
    varied: float = 0.0
    effects: float = 0.0
    exposed: float = 0.0


WORLDS = {
    "usual": World(),
    "strong": World(effect=3.0),
    "weak": World(effect=0.3),
    "no effect": World(effect=0.0),
    "hard and easy records": World(difficulty=5.0),
    "constant": World(0.0, 0.0, 0.0),
    "lookup table": World(40.0, 0.0, 0.0),
    "as the demo": World(effect=0.1, difficulty=5.0, varied=0.25, exposed=0.1),
    "as cifar10-small": World(effect=1.0, difficulty=3.0, varied=0.5, effects=0.8),
}


def own_deviation_control(
    view: AttackView, member: np.ndarray, rng: np.random.Generator
) -> AttackView:
    """Return a positive control with each record's own deviation over its OUT references."""
    outside = np.where(view.outside, view.references[..., 0, LOGIT_SCALED], np.nan)
    count = view.outside.sum(axis=0)
    deviation = np.maximum(np.nanstd(outside, axis=0, ddof=1), SMALLEST_DEVIATION)
    noise = np.sqrt(1 + 1 / count) * rng.standard_normal(len(member)) + STRENGTH * member
    confidence = np.nanmean(outside, axis=0) + deviation * noise
    return view.of_target(two_class_signals(confidence[:, None]), view.population_target)


def audited(world: World, seed: int, records: int) -> dict[str, tuple[list[float], str]]:
    """Return AUCs (positive, own deviations, real, negative) and the verdict, by attack."""
    rng = np.random.default_rng([seed, 6])
    inside = rng.random((REFERENCES, records)).argsort(axis=0) < REFERENCES // 2
    hard = world.difficulty * rng.standard_normal(records)
    others = np.random.default_rng([seed, 7])
    spread = world.spread * np.exp(world.varied * others.standard_normal(records))
    effect = world.effect + world.effects * others.standard_normal(records)
    effect = np.where(others.random(records) < world.exposed, STRENGTH * spread, effect)
    answers = hard + effect * inside + spread * rng.standard_normal(inside.shape)
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
    own = own_deviation_control(view, member, rng)
    trained = hard + effect * member + spread * rng.standard_normal(records)
    real = view.of_target(two_class_signals(trained[:, None]), view.population_target)
    figures = {}
    for attack in [form for name in ATTACKS for form in expand(name)]:
        found, *others = (
            estimate_auc(roc(attack(answered), member))
            for answered in (positive, own, real, negative)
        )
        measure = Measure(found.value, found.low, found.high)
        reference = "fp32" if attack.uses_references else ""
        row = Row(POSITIVE, "", None, attack.name, reference, "all", "auc", measure)
        verdict = judge_positive_control(tabulate([row]), attack.name, reference, 0.01)
        areas = [found.value, *(area.value for area in others)]
        figures[attack.name] = (areas, verdict.status)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--records", type=int, default=400)
    parser.add_argument("--world", choices=WORLDS, nargs="*", default=tuple(WORLDS))
    options = parser.parse_args()
    print(f"strength {STRENGTH:g}, AUC {perfect_auc():.3f} for who knows every distribution")
    print("| references | attack | positive | own | real | negative | found, partly, not (%) |")
    print("|---|---|---|---|---|---|---|")
    start = time.process_time()
    for name in options.world:
        audits = [audited(WORLDS[name], seed, options.records) for seed in range(options.audits)]
        for attack in audits[0]:
            values = np.array([audit[attack][0] for audit in audits]).mean(axis=0)
            verdicts = Counter(audit[attack][1] for audit in audits)
            shares = [
                f"{100 * verdicts[status] / len(audits):.1f}"
                for status in ("found", "partly found", "not found")
            ]
            areas = " | ".join(f"{value:.3f}" for value in values)
            print(f"| {name} | `{attack}` | {areas} | {', '.join(shares)} |", flush=True)
    print(f"({time.process_time() - start:.0f} CPU seconds)")


if __name__ == "__main__":
    main()
