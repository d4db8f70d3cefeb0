"""Tasks of calibration-set inference: targets quantized on halves of their candidates.

Quantizing, querying and attacking are the steps of any audit, with the candidates of one target in
the place of the pool and its quantized models in the place of the population.
"""

from dataclasses import dataclass, replace

from bitleak.attacks import Attack, attack_entries, expand
from bitleak.audit.graph.evaluation_tasks import Models, variant_columns
from bitleak.audit.graph.planner import Planner
from bitleak.config import CalibrationInferenceConfig, QuantizeConfig
from bitleak.core.errors import ConfigError
from bitleak.core.outside import versioned
from bitleak.core.seeds import seed_for
from bitleak.core.variants import FULL
from bitleak.engine.keys import Task
from bitleak.steps.attack_targets import AttackTargets
from bitleak.steps.draw_candidates import DrawCandidates
from bitleak.steps.measure_calibration import MeasureCalibration
from bitleak.steps.quantize_model import QuantizeModel
from bitleak.steps.query_model import QueryModel
from bitleak.steps.scale import Scale
from bitleak.steps.step import InputKeys, planned


def calibration_set_tasks(planner: Planner, models: Models) -> tuple[list[Task], list[Task]]:
    """Plan all tasks, and the tasks that make the rows, one per variant.

    Raises:
        ConfigError: A target has too few members, or no attack uses references.
    """
    section = planner.config.calibration_inference
    if section is None:
        return [], []
    inference = _CalibrationSets(planner, section)
    inference.check()
    rows = models.targets[: section.targets]
    candidates = {row: inference.candidates(row) for row in rows}
    made: list[Task] = list(candidates.values())
    results = []
    for entry in [entry for entry in planner.config.quantize if entry.variant in section.variants]:
        attacks = []
        for row in rows:
            trained = models.weights[FULL, row]
            quantized = [
                inference.quantize(entry, row, half, trained, candidates[row])
                for half in range(section.models)
            ]
            answers = [inference.query(weights, candidates[row]) for weights in quantized]
            attacks.append(inference.attack(entry, row, answers, candidates[row]))
            made += [*quantized, *answers]
        made += attacks
        results.append(inference.measure(entry, rows, attacks, list(candidates.values())))
    return made, results


@dataclass(frozen=True)
class _CalibrationSets:
    """Plans single tasks.

    Attributes:
        planner: The audit's planner.
        section: The config's section.
    """

    planner: Planner
    section: CalibrationInferenceConfig

    def check(self) -> None:
        """Refuse a target with too few members, tools, and attacks of which none uses references."""
        for entry in self.planner.config.quantize:
            if entry.variant not in self.section.variants:
                continue
            if entry.levels is None or entry.is_trained:
                made = "by training on all members" if entry.is_trained else "by a tool"
                raise ConfigError(
                    f"calibration_inference.variants: {entry.variant} is made {made}; expected "
                    "variants of bitleak's own quantizers after training"
                )
        members = self.planner.scale.members
        if self.section.candidates > members:
            raise ConfigError(
                f"calibration_inference.candidates: expected at most the {members} members of a target, "
                f"got {self.section.candidates}"
            )
        if not self._attacks():
            raise ConfigError(
                "attacks: calibration_inference needs an attack with references; add one, such as lira"
            )

    def candidates(self, row: int) -> Task:
        """Plan the draw of the candidates of one target."""
        step = DrawCandidates(
            target=row,
            candidates=self.section.candidates,
            models=self.section.models,
            population=self._population(),
            seed=self._seed(row),
        )
        inputs = {"splits": self.planner.splits().key}
        return self.planner.task(step, inputs, f"candidates of target {row}")

    def quantize(
        self, entry: QuantizeConfig, row: int, half: int, trained: Task, candidates: Task
    ) -> Task:
        """Plan the quantization of one target on one half of its candidates."""
        calibration = replace(
            entry.calibration, source="members", records=self.section.candidates // 2
        )
        assert entry.levels is not None, "`check` has refused tools"
        step = QuantizeModel(
            model=half,
            quantizer=versioned(entry.name),
            options=self.planner.quantizer_options(entry),
            levels=entry.levels,
            calibration=calibration,
            seed=self._seed(row),
        )
        inputs = {"weights": trained.key, **self._data(candidates)}
        label = f"{entry.variant} of target {row}, calibration set {half}"
        return planned(step, inputs, self.planner.scale, label, group=f"{entry.label}:{row}:{half}")

    def query(self, quantized: Task, candidates: Task) -> Task:
        """Plan the answers of one quantized target about its candidates."""
        query = self.planner.config.query
        step = QueryModel(queries=query.augment, batch=query.batch, test=False)
        inputs = {"weights": quantized.key, **self._data(candidates)}
        return planned(step, inputs, self._scale(), f"query {quantized.label}")

    def attack(
        self, entry: QuantizeConfig, row: int, answers: list[Task], candidates: Task
    ) -> Task:
        """Plan the attacks on the calibration sets of one target."""
        models = tuple(range(self.section.models))
        step = AttackTargets(
            attacks=self._attacks(),
            recalibrated=False,
            control=False,
            targets=models,
            references=models,
            seed=self._seed(row),
        )
        keys = tuple(answer.key for answer in answers)
        inputs: InputKeys = {"targets": keys, "references": keys, **self._data(candidates)}
        label = f"attack the calibration set of {entry.variant} of target {row}"
        return planned(step, inputs, self._scale(), label, cost=step.cost(self._scale()) + 0.5)

    def measure(
        self,
        entry: QuantizeConfig,
        rows: tuple[int, ...],
        attacks: list[Task],
        candidates: list[Task],
    ) -> Task:
        """Plan the rows of one variant."""
        config = self.planner.config
        columns = variant_columns(config, entry.variant)
        step = MeasureCalibration(*columns, targets=rows, fpr=self.section.fpr, seed=config.seed)
        inputs = {
            "scores": tuple(task.key for task in attacks),
            "splits": tuple(task.key for task in candidates),
        }
        return planned(
            step, inputs, self._scale(), f"measure the calibration set of {entry.variant}"
        )

    def _data(self, candidates: Task) -> dict[str, str]:
        """Return the images, and the candidates in the place of the splits."""
        return {"images": self.planner.images().key, "splits": candidates.key}

    def _scale(self) -> Scale:
        """Return the numbers with the candidates in the place of the pool."""
        return replace(
            self.planner.scale,
            pool=self.section.candidates,
            members=self.section.candidates // 2,
            population=self._population(),
            models=self.section.models,
            targets=self.section.models,
            references=self.section.models,
            attacks=len(self._attacks()),
        )

    def _population(self) -> int:
        return min(
            self.planner.scale.population, self.planner.scale.members - self.section.candidates
        )

    def _seed(self, row: int) -> int:
        return seed_for(self.planner.config.seed, "calibration_inference", row)

    def _attacks(self) -> tuple[str, ...]:
        """Return the attacks that use references and have enough population records."""
        entries = attack_entries(self.planner.config.attacks)
        names = []
        for name in entries:
            if any(self._fits(attack) for attack in expand(name)):
                names.append(name)
        return tuple(names)

    def _fits(self, attack: Attack) -> bool:
        return attack.uses_references and attack.fewest_population <= self._population()
