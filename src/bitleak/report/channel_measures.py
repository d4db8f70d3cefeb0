"""Figures of answers that come through channels, by variant, channel and adversary."""

from dataclasses import dataclass

from bitleak.core.metric_names import AUC, Metric
from bitleak.core.types import Measure
from bitleak.core.variants import UNADAPTED, Variant, question_of, through
from bitleak.report.results_table import Table
from bitleak.report.summary import Summary


@dataclass(frozen=True)
class ChannelMeasures:
    """Figures of one attack through channels.

    Attributes:
        table: The aggregated rows.
        attack: Name of the attack.
        channels: Channels of each variant, in the order of the rows.
        kinds: Kind of the references that answer through the channel, by variant; empty if the
            attack uses none.
    """

    table: Table
    attack: str
    channels: dict[str, list[str]]
    kinds: dict[str, str]

    def find(
        self, variant: str, channel: str, metric: Metric, *, adapted: bool = True
    ) -> Measure | None:
        """Return a figure; None if there is no such row."""
        kind = self.kinds[variant]
        reference = kind if adapted or not kind else f"{UNADAPTED}{kind}"
        return self.table.cells.get(
            (through(channel, variant), self.attack, reference, str(metric))
        )


def channel_measures(table: Table, summary: Summary) -> ChannelMeasures | None:
    """Return the figures of the headline attack or, if it is not run, of the first with references.

    Returns:
        None if no answers came through channels.
    """
    rows = [key for key in table.cells if question_of(*key[:2]) == "channel" and key[3] == str(AUC)]
    if not rows:
        return None
    attacks = list(dict.fromkeys(attack for _, attack, reference, _ in rows if reference))
    attacks += list(dict.fromkeys(attack for _, attack, _, _ in rows))
    attack = summary.headline_attack if summary.headline_attack in attacks else attacks[0]
    channels: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for name, row_attack, reference, _ in rows:
        if row_attack != attack or reference.startswith(UNADAPTED):
            continue
        variant = Variant.parse(name)
        channels.setdefault(variant.labels[0], []).append(variant.channel)
        kinds[variant.labels[0]] = reference
    return ChannelMeasures(table, attack, channels, kinds)
