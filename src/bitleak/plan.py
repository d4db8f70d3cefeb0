"""From a config to the graph of its tasks: pure, without a file or a network.

```
images -> splits -> train (per model) -> quantize (per model and variant) -> query
       -> attack (per variant and reference) -> measure -> rows
```

Every task carries what it should cost in seconds, from the multiply-adds of the network and the
measured rates in `RATES`, so that a plan can be read before an hour is spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitleak.attacks import expand
from bitleak.config import Config, QuantizeConfig
from bitleak.core.errors import ConfigError
from bitleak.core.types import SIGNALS, Description
from bitleak.engine.keys import Task

VERSIONS = {
    "images": "1",
    "splits": "1",
    "train": "1",
    "quantize": "1",
    "query": "1",
    "attack": "1",
    "measure": "2",
    "utility": "2",
}
"""Raised when the meaning of a stage changes; a part of every key."""

CONTROL = "control"
"""The variant whose targets answer with noise."""

RATES = {"cpu": 3.3e10, "cuda": 4.0e12}
"""Multiply-adds per second and worker of a forward pass in float32, by type of device; to be
corrected by what the store's manifests say as soon as there are any."""

SLOWDOWN = {"search": 20.0, "adaround": 3.0, "brecq": 3.0, "obc": 8.0, "gptq": 3.0, "polish": 3.0}
"""How far the parts of the quantizers stay below that rate, on one core: cnn of width 16 and 32, float64."""

PASS = {"full_precision": 4.0, "quantized": 9.0}
"""What a pass over the images for a layer-wise quantizer's statistics takes, in forward passes, by its `inputs`."""

COLUMN = {"gptq": 1.3e6, "polish": 5.6e5}
"""What the small operations for a column of a layer take (per sweep), in multiply-adds: 40 and 17 microseconds."""


@dataclass(frozen=True)
class NetworkSize:
    """What a plan needs to know of the network.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Per image of the data set, forward.
        layers: Output channels and columns (input channels per group times kernel area) of every
            quantizable layer.
    """

    parameters: int
    multiply_adds: int
    layers: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Sizes:
    """How many records of each kind a config comes to.

    Attributes:
        pool: Records that models are trained on.
        members: Members of each model.
        calibration: Held-out records for calibration.
        population: Held-out records for the adversary.
        test: Held-out records for the accuracy.
    """

    pool: int
    members: int
    calibration: int
    population: int
    test: int


@dataclass(frozen=True)
class Plan:
    """The tasks of an audit.

    Attributes:
        tasks: All of them, inputs before what needs them.
        images: Key of the images.
        splits: Key of the splits.
        results: Keys of the tasks whose rows make the results table, in its order.
        targets: Rows of the attacked models.
        references: Rows of the models that serve as references.
        sizes: Numbers of records.
        bytes: Expected size of each task's artifact, by key.
    """

    tasks: tuple[Task, ...]
    images: str
    splits: str
    results: tuple[str, ...]
    targets: tuple[int, ...]
    references: tuple[int, ...]
    sizes: Sizes
    bytes: Mapping[str, int]


def plan(config: Config, description: Description, network: NetworkSize, *, device: str = "cpu") -> Plan:
    """The graph of an audit.

    Args:
        config: A validated config.
        description: The data set, undecoded.
        network: The network's size on these images.
        device: `cpu` or `cuda`, for the expected seconds alone.

    Raises:
        ConfigError: The data set is too small for the splits or the calibration.
    """
    builder = _Builder(config, description, network, sizes_of(config, description), RATES[device.split(":")[0]])
    return builder.build()


def sizes_of(config: Config, description: Description) -> Sizes:
    """The numbers of records that the splits will have.

    Raises:
        ConfigError: They do not fit; says the numbers.
    """
    split, data = config.split, config.data
    own = description.held_out
    total = description.records - own
    total = min(total, data.limit) if data.limit else total
    held_out = (min(own, data.held_out) if data.held_out else own) if own else round(total * split.held_out)
    pool = (total if own else total - held_out) // 2 * 2
    members = pool // 2
    test = held_out - split.calibration - split.population if split.test is None else split.test
    errors = []
    if test < 1 or split.calibration + split.population + test > held_out:
        errors.append(
            f"split: calibration {split.calibration} + population {split.population} + test "
            f"{'the rest' if split.test is None else split.test} do not fit into {held_out} held-out records"
        )
    if members < 2:
        errors.append(f"data: {total} records give models {members} members each; at least 2 are needed")
    for entry in config.quantize:
        if entry.calibration.source == "members" and entry.calibration.records > members:
            errors.append(
                f"calibration.records: {entry.variant} asks for {entry.calibration.records} members, "
                f"but each model has {members}; lower it to at most {members}"
            )
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    return Sizes(pool, members, split.calibration, split.population, test)


def target_rows(config: Config) -> tuple[int, ...]:
    """Rows of the attacked models: of a population the first of every pair, then their complements."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets))
    rows = [*range(0, config.split.models, 2), *range(1, config.split.models, 2)]
    return tuple(sorted(rows[: config.split.targets]))


def reference_rows(config: Config) -> tuple[int, ...]:
    """Rows of the models that serve as references of some target."""
    if config.split.mode == "dedicated":
        return tuple(range(config.split.targets, config.split.targets + config.split.shadows))
    return tuple(range(config.split.models))


@dataclass(frozen=True)
class _Builder:
    """The state of making one plan: what the tasks have in common."""

    config: Config
    description: Description
    network: NetworkSize
    sizes: Sizes
    rate: float

    def build(self) -> Plan:
        config = self.config
        targets, references = target_rows(config), reference_rows(config)
        images, splits = self.images(), self.splits()
        tasks: list[Task] = [images, splits]
        answers: dict[tuple[str, int], Task] = {}
        rows = sorted({*targets, *references})
        weights = {("fp32", row): self.train(row) for row in rows}
        for row in rows:
            answers["fp32", row] = self.query(weights["fp32", row], f"fp32 of model {row}")
        quantized_rows = rows if "matched" in config.references else list(targets)
        for row in quantized_rows:
            for entry in config.quantize:
                task = self.quantize(entry, row, weights["fp32", row])
                weights[entry.variant, row] = task
                answers[entry.variant, row] = self.query(task, f"{entry.variant} of model {row}")
        tasks += [*weights.values(), *answers.values()]
        results: list[Task] = []
        for variant in ["fp32", *(entry.variant for entry in config.quantize), CONTROL]:
            attacks, measured = self.evaluate(variant, targets, references, answers, weights)
            tasks += [*attacks, *measured]
            results += measured
        unique = {task.key: task for task in tasks}
        return Plan(
            tasks=tuple(unique.values()),
            images=images.key,
            splits=splits.key,
            results=tuple(task.key for task in results),
            targets=targets,
            references=references,
            sizes=self.sizes,
            bytes={key: self.size(task) for key, task in unique.items()},
        )

    def images(self) -> Task:
        data = self.config.data
        options = {key: value for key, value in data.options.items() if key != "path"}
        params = {
            "name": data.name,
            "options": options,
            "limit": data.limit,
            "held_out": data.held_out,
            "fingerprint": self.description.fingerprint,
            "seed": self.config.seed,
        }
        cost = 2e-4 * self.description.records
        return self.task("images", params, {}, f"images of {data.name}", cost)

    def splits(self) -> Task:
        split = self.config.split
        counts = {"models": split.models} if split.mode == "population" else {"shadows": split.shadows}
        params = {
            "mode": split.mode,
            "targets": split.targets,
            "held_out": split.held_out,
            "calibration": split.calibration,
            "population": split.population,
            "test": split.test,
            "seed": self.config.seed,
            **counts,
        }
        return self.task("splits", params, {"images": self.images().key}, "splits", 0.1)

    def train(self, row: int) -> Task:
        name, options = self.config.model
        recipe = asdict(self.config.train)
        params = {"model": row, "network": name, "options": dict(options), "recipe": recipe, "seed": self.config.seed}
        work = 3 * self.network.multiply_adds * self.sizes.members * self.config.train.epochs
        speed = 2.0 if self.config.train.autocast == "bfloat16" else 1.0
        return self.task("train", params, self.data(), f"train model {row}", work / (self.rate * speed))

    def quantize(self, entry: QuantizeConfig, row: int, trained: Task) -> Task:
        params = {
            "model": row,
            "quantizer": entry.name,
            "options": dict(entry.options),
            "levels": entry.levels,
            "calibration": asdict(entry.calibration),
            "seed": self.config.seed,
        }
        first = next(other for other in self.config.quantize if other.label == entry.label)
        cost = quantizer_work(entry, self.network, shared=first is not entry) / self.rate
        task = self.task(
            "quantize", params, {"weights": trained.key, **self.data()}, f"{entry.variant} of model {row}", cost
        )
        return replace(task, group=f"{entry.label}:{row}")

    def query(self, weights: Task, label: str) -> Task:
        query = self.config.query
        params = {"queries": list(query.augment), "batch": query.batch}
        asked = (self.sizes.pool + self.sizes.population) * len(query.augment) + self.sizes.test
        cost = self.network.multiply_adds * asked / self.rate
        return self.task("query", params, {"weights": weights.key, **self.data()}, f"query {label}", cost)

    def evaluate(
        self,
        variant: str,
        targets: Sequence[int],
        references: Sequence[int],
        answers: Mapping[tuple[str, int], Task],
        weights: Mapping[tuple[str, int], Task],
    ) -> tuple[list[Task], list[Task]]:
        """The attack tasks of a variant, and the tasks that make its rows."""
        config = self.config
        if variant == "fp32":
            kinds = ["fp32", *(kind for kind in config.references if kind == "recalibrated")]
        else:
            kinds = ["fp32"] if variant == CONTROL else list(config.references)
        about = {"variant": variant, **_named(config, variant)}
        attacks, measured = [], []
        baseline = self.attack("fp32", "fp32", targets, references, answers)
        for kind in kinds:
            attack = self.attack(variant, kind, targets, references, answers)
            params = {
                **about,
                "reference": kind,
                "fpr": list(config.fpr),
                "seed": config.seed,
                "standalone": kind == kinds[0],
            }
            inputs = {"scores": attack.key, "baseline": baseline.key, "splits": self.splits().key}
            attacks.append(attack)
            cost = 4e-5 * len(targets) * self.sizes.pool
            measured.append(self.task("measure", params, inputs, f"measure {variant} by {kind}", cost))
        if variant != CONTROL:
            measured.append(self.utility(about, variant, targets, answers, weights))
        return attacks, measured

    def attack(
        self,
        variant: str,
        kind: str,
        targets: Sequence[int],
        references: Sequence[int],
        answers: Mapping[tuple[str, int], Task],
    ) -> Task:
        attacked = "fp32" if variant == CONTROL else variant
        by = attacked if kind == "matched" else "fp32"
        names = list(dict.fromkeys(form.name for name in self.config.attacks for form in expand(name)))
        params = {
            "attacks": names,
            "recalibrated": kind == "recalibrated",
            "control": variant == CONTROL,
            "targets": list(targets),
            "references": list(references),
            "seed": self.config.seed,
        }
        inputs = {
            "targets": tuple(answers[attacked, row].key for row in targets),
            "references": tuple(answers[by, row].key for row in references),
            **self.data(),
        }
        answers_read = len(targets) * len(references) * self.sizes.pool * len(self.config.query.augment)
        cost = 4e-8 * len(names) * answers_read
        return self.task("attack", params, inputs, f"attack {variant} by {kind}", cost)

    def utility(
        self,
        about: Mapping[str, Any],
        variant: str,
        targets: Sequence[int],
        answers: Mapping[tuple[str, int], Task],
        weights: Mapping[tuple[str, int], Task],
    ) -> Task:
        params = {**about, "targets": list(targets), "seed": self.config.seed}
        inputs: dict[str, str | tuple[str, ...]] = {
            "outputs": tuple(answers[variant, row].key for row in targets),
            "baseline": tuple(answers["fp32", row].key for row in targets),
            "weights": tuple(weights[variant, row].key for row in targets),
            **self.data(),
        }
        return self.task("utility", params, inputs, f"accuracy of {variant}", 0.2)

    def data(self) -> dict[str, str | tuple[str, ...]]:
        return {"images": self.images().key, "splits": self.splits().key}

    def task(self, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Any], label: str, cost: float) -> Task:
        return Task(stage, VERSIONS[stage], params, inputs, label=label, cost=cost)

    def size(self, task: Task) -> int:
        """Expected bytes of the task's artifact."""
        sizes, queries, parameters = self.sizes, len(self.config.query.augment), self.network.parameters
        pixels = self.description.channels * self.description.size**2
        targets = self.config.split.targets
        records = sizes.pool + sizes.calibration + sizes.population + sizes.test
        of = {
            "images": pixels * records,
            "splits": (self.config.split.models + self.config.split.shadows) * sizes.pool + 8 * records,
            "train": 4 * parameters,
            "quantize": parameters + 4 * parameters // 50,
            "query": 8 * queries * len(SIGNALS) * (sizes.pool + sizes.population) + 8 * sizes.test,
            "attack": 8 * 8 * targets * sizes.pool,
            "measure": 16 * 8 * (targets + 1) * 256,
            "utility": 2000,
        }
        return of[task.stage] + 4096


def quantizer_work(entry: QuantizeConfig, network: NetworkSize, *, shared: bool = False) -> float:
    """What one quantization takes, in multiply-adds at the rate of a forward pass.

    Args:
        entry: One precision of an entry.
        network: The network's size.
        shared: Whether the pass over the images that can be shared is counted with another precision.
    """
    options, layers = entry.options, network.layers
    forward = 1.0 * network.multiply_adds * entry.calibration.records * entry.calibration.rounds
    steps = options.get("iterations", 0)
    own = {
        "adaround": 3 * forward + steps * sum(out * columns * (columns + 20.0) for out, columns in layers),
        "brecq": 3.0 * network.multiply_adds * steps * options.get("batch", 32) + 3 * forward,
        "obc": sum(out * columns**3 / 3 for out, columns in layers),
        "gptq": sum(columns**3 * 2 / 3 + out * columns**2 / 2 for out, columns in layers),
    }
    columns = sum(columns for _, columns in layers)
    work = SLOWDOWN["search"] * 80.0 * sum(out * columns for out, columns in layers)
    work += SLOWDOWN.get(entry.name, 3.0) * own.get(entry.name, 0.0) + COLUMN.get(entry.name, 0.0) * columns
    sweeps = options.get("polish", 0)
    work += sweeps * COLUMN["polish"] * columns
    work += sweeps * SLOWDOWN["polish"] * sum(1.5 * out * columns**2 for out, columns in layers)
    inputs = options.get("inputs", "full_precision")
    looks = entry.name in ("obc", "gptq") or (entry.name == "rtn" and sweeps > 0)
    if looks and not (shared and inputs == "full_precision"):
        work += PASS[inputs] * forward
    if options.get("reestimate", "none") != "none" and inputs == "full_precision":  # on the way of the walk if not
        work += (4 if options["reestimate"] == "relative" else 3) * forward
    return work


def _named(config: Config, variant: str) -> dict[str, Any]:
    for entry in config.quantize:
        if entry.variant == variant:
            return {"quantizer": entry.label, "levels": entry.levels}
    return {"quantizer": "", "levels": None}
