"""The tasks of attacks through channels: how much does a coarser answer hide, and from which adversary?"""

from dataclasses import dataclass

from bitleak.attacks import attack_entries
from bitleak.audit.graph.evaluation_tasks import (
    Models,
    attack_variant,
    compare,
    estimate,
    is_matched,
    measure_attacks,
    reference_variant,
    variant_columns,
)
from bitleak.audit.graph.planner import Planner
from bitleak.config.channels_section import ChannelsConfig
from bitleak.core.channel_names import LOGITS
from bitleak.core.variants import FULL, UNADAPTED, through
from bitleak.engine.keys import Task
from bitleak.steps.attack_channel import AttackChannel
from bitleak.steps.step import InputKeys


def channel_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan the attacks through every channel on every variant, and the tasks that make the rows.

    References are quantized as the variant is, if some adversary of the config has such ones.
    """
    section = planner.config.channels
    if section is None:
        return [], []
    channels = _Channels(planner, models, section)
    made: list[Task] = []
    results: list[Task] = []
    for variant in section.variants:
        kind = "matched" if variant != FULL and is_matched(planner.config, variant) else FULL
        attacks, measured = channels.rows(variant, kind)
        made += attacks
        results += measured
    return made, results


@dataclass(frozen=True)
class _Channels:
    """Plans single tasks.

    Attributes:
        planner: The audit's planner.
        models: The models in every variant.
        section: The config's section.
    """

    planner: Planner
    models: Models
    section: ChannelsConfig

    def rows(self, variant: str, kind: str) -> tuple[list[Task], list[Task]]:
        """Plan the attacks on a variant through all channels, and the tasks that make the rows."""
        exact = self._by_logits(variant, kind)
        baseline = estimate(self.planner, self._by_logits(FULL, FULL))
        made = [self._by_logits(FULL, FULL), exact, baseline]
        results = []
        if LOGITS in self.section.names:
            results.append(self._measure(LOGITS, variant, kind, exact, baseline))
        for channel in self.section.hiding:
            for adapted in (True, False):
                attack = self._attack(channel, variant, kind, adapted=adapted)
                reference = kind if adapted else f"{UNADAPTED}{kind}"
                made.append(attack)
                results.append(self._measure(channel, variant, reference, attack, baseline))
                results.append(self._compare(channel, variant, reference, attack, exact))
        return made, results

    def _by_logits(self, variant: str, kind: str) -> Task:
        """Plan the attacks on answers that nothing is hidden of, as in the rest of the audit."""
        return attack_variant(self.planner, self.models, variant, kind, self.section.attacks)

    def _attack(self, channel: str, variant: str, kind: str, *, adapted: bool) -> Task:
        step = AttackChannel(
            channel=channel,
            adapted=adapted,
            attacks=tuple(attack_entries(self.section.attacks)),
            targets=self.models.targets,
            references=self.models.references,
            seed=self.planner.config.seed,
        )
        inputs: InputKeys = {
            "targets": self.models.target_keys(variant),
            "references": self.models.reference_keys(
                reference_variant(self.planner.config, variant, kind)
            ),
            **self.planner.data(),
        }
        how = "alike" if adapted else "by logits"
        return self.planner.task(step, inputs, f"attack {through(channel, variant)}, {kind} {how}")

    def _measure(
        self, channel: str, variant: str, reference: str, attack: Task, baseline: Task
    ) -> Task:
        """Plan the rows of one channel; attacks without references have theirs where references adapt."""
        adversaries = 2 * len(self.section.hiding) + (LOGITS in self.section.names)
        return measure_attacks(
            self.planner,
            variant_columns(self.planner.config, through(channel, variant)),
            reference,
            scores=attack,
            baseline=baseline,
            standalone=not reference.startswith(UNADAPTED),
            comparisons=adversaries * len(attack.params["attacks"]),
        )

    def _compare(
        self, channel: str, variant: str, reference: str, attack: Task, exact: Task
    ) -> Task:
        return compare(
            self.planner,
            variant_columns(self.planner.config, through(channel, variant)),
            reference,
            scores=attack,
            others=[exact],
            over=LOGITS,
            standalone=not reference.startswith(UNADAPTED),
        )
