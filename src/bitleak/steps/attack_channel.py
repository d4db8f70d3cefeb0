"""Run attacks on targets whose answers come through a channel, such as labels or rounded probabilities."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from bitleak.core.channel_names import Channel
from bitleak.core.types import Images, Outputs, Splits
from bitleak.engine.worker import Runtime
from bitleak.steps.answer_scale import Labels
from bitleak.steps.attack_targets import AttackScores, AttackTargets, applicable
from bitleak.steps.channel_answers import channel_scale, scaled_through
from bitleak.steps.scale import Scale
from bitleak.steps.step import OnProgress


@dataclass(frozen=True)
class AttackChannel:
    """Run every attack on every target through a channel.

    Attributes:
        channel: Name of the channel.
        adapted: Whether the references answer through the channel as the target does; if not, they
            answer by logits.
        attacks: Names of the attacks, in full.
        targets: Rows of the targets.
        references: Rows of the models whose answers are the inputs `references`.
        seed: The audit's seed.
    """

    channel: str
    adapted: bool
    attacks: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    seed: int

    STAGE: ClassVar[str] = "channel"
    VERSION: ClassVar[str] = "1"

    class Inputs(NamedTuple):
        """Answers of the targets and of the references with their logits, in the order of their rows."""

        targets: tuple[Outputs, ...]
        references: tuple[Outputs, ...]
        images: Images
        splits: Splits

    def cost(self, scale: Scale) -> float:
        """Seconds of the attacks, and of the answers' reading."""
        read = len(self.targets) + self.adapted * len(self.references)
        return (
            len(self.attacks) * scale.attack_seconds + scale.scaling_seconds("temperature") * read
        )

    def bytes(self, scale: Scale) -> int:
        """Bytes of the scores, and of the population's by attacks without references."""
        attacks = applicable(self.attacks, recalibrate=False, population=scale.population)
        alone = sum(not attack.uses_references for attack in attacks)
        return 8 * len(self.targets) * (len(attacks) * scale.pool + alone * scale.population)

    def memory(self, scale: Scale) -> int:
        """Memory of the stacked references, of the answers as they are read, scaled and rounded, and of the scores."""
        scaled = scale.scaled_bytes(channel_scale(Channel.parse(self.channel)))
        return scale.stack_bytes + 3 * scaled + self.bytes(scale)

    def run(self, inputs: Inputs, runtime: Runtime, progress: OnProgress) -> AttackScores:
        """Return the scores, with the scale of the answers."""
        labels = Labels.of(inputs.images, inputs.splits)
        scaled = scaled_through(
            Channel.parse(self.channel),
            inputs.targets,
            inputs.references,
            labels,
            adapted=self.adapted,
        )
        attack = AttackTargets(
            attacks=self.attacks,
            recalibrated=False,
            control=False,
            targets=self.targets,
            references=self.references,
            seed=self.seed,
        )
        answers = AttackTargets.Inputs(
            scaled.targets, scaled.references, inputs.images, inputs.splits
        )
        return replace(attack.run(answers, runtime, progress), scale=scaled.facts)
