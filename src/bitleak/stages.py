"""The adapters between stored artifacts and pure functions: nothing is computed here.

A stage is called with the parameters of one or more tasks that share their inputs, and yields one
artifact mapping per task, in order. `inputs` arrive decoded. What a stage means is versioned in
`bitleak.plan.VERSIONS`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitleak import metrics, registry
from bitleak.attacks import RECALIBRATED_SIGNALS, Attack, expand, negative_control, recalibrated
from bitleak.core.errors import ModelError
from bitleak.core.seeds import seed_for
from bitleak.core.types import (
    SIGNALS,
    AttackView,
    Images,
    Measure,
    ModelSpec,
    Outputs,
    QuantizedWeights,
    Row,
    Splits,
    Weights,
)
from bitleak.data import limited
from bitleak.data.augment import augmented, channel_statistics, standardize
from bitleak.data.splits import make_splits, references
from bitleak.engine.worker import Runtime
from bitleak.metrics.size import size
from bitleak.models import load
from bitleak.models.precision import exact_float32
from bitleak.quant.together import quantize_together
from bitleak.query import outputs
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

Params = Sequence[Mapping[str, Any]]
Progress = Callable[[float], None]
Artifacts = Any


def images(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The data set, decoded once."""
    for one in params:
        where = {} if runtime.path is None else {"path": runtime.path}
        dataset = registry.find(registry.DATASETS, one["name"], kind="data set")(**one["options"], **where)
        found = dataset.load(None if runtime.data is None else Path(runtime.data))
        yield limited(found, one["limit"], one["seed"], held_out=one["held_out"])


def splits(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Who is trained on what."""
    for one in params:
        yield make_splits(inputs["images"], **one)


def train(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """One model."""
    data: Images = inputs["images"]
    split: Splits = inputs["splits"]
    for one in params:
        recipe = Recipe(**{**one["recipe"], "augment": tuple(one["recipe"]["augment"])})
        spec = specification(data, split, one["network"], one["options"])
        yield fit(
            data,
            split.pool[split.member[one["model"]]],
            recipe,
            spec=spec,
            seed=seed_for(one["seed"], "train", one["model"]),
            device=runtime.device,
            on_epoch=partial(_epoch, progress, recipe.epochs),
        )


def quantize(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """One model by one quantizer, at one or more precisions."""
    weights: Weights = inputs["weights"]
    spec = _spec(weights)
    network = load(weights).to(runtime.device)
    for _, some in groupby(params, key=lambda one: (one["model"], one["calibration"], one["seed"])):
        alike = list(some)
        quantizers = [_quantizer(one) for one in alike]
        shown = calibration_images(inputs["images"], inputs["splits"], spec, alike[0], runtime.device)
        chances = [torch.Generator().manual_seed(seed_for(one["seed"], "quantize", one["model"])) for one in alike]
        results = quantize_together(quantizers, network, shown, chances)
        for _ in alike:
            with exact_float32():
                found = next(results)
            yield replace(found, spec=spec)


def query(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """What one set of weights answers about every record."""
    weights = inputs["weights"]
    weights = weights.dequantize() if isinstance(weights, QuantizedWeights) else weights
    network = load(weights)
    for one in params:
        yield outputs(
            network,
            inputs["images"],
            inputs["splits"],
            spec=_spec(weights),
            queries=one["queries"],
            batch=one["batch"],
            device=runtime.device,
            on_step=progress,
        )


def attack(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The scores of every attack on every target of one variant, by one kind of reference."""
    split: Splits = inputs["splits"]
    for one in params:
        answers = dict(zip(one["references"], inputs["references"], strict=True))
        attacks = applicable(one["attacks"], recalibrated=one["recalibrated"], population=len(split.population))
        found = []
        for done, (row, target) in enumerate(zip(one["targets"], inputs["targets"], strict=True)):
            view = view_of(inputs["images"], split, row, target, answers, seed=one["seed"])
            if one["control"]:
                view = negative_control(view, np.random.default_rng(seed_for(one["seed"], "control", row)))
            if one["recalibrated"]:
                view = recalibrated(view)
            found.append([each(view) for each in attacks])
            progress((done + 1) / len(one["targets"]))
        yield {
            "scores": np.array(found).swapaxes(0, 1),  # (attacks, targets, records)
            "attacks": [{"name": each.name, "references": each.uses_references} for each in attacks],
            "targets": list(one["targets"]),
        }


def measure(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """The rows and curves of one variant by one kind of reference."""
    scores, baseline, split = inputs["scores"], inputs["baseline"], inputs["splits"]
    targets = scores["targets"]
    member = split.member[targets]
    at_fp32 = {each["name"]: baseline["scores"][index] for index, each in enumerate(baseline["attacks"])}
    for one in params:
        rows: list[Row] = []
        curves: dict[str, np.ndarray] = {}
        for index, each in enumerate(scores["attacks"]):
            if not each["references"] and not one["standalone"]:
                continue
            reference = one["reference"] if each["references"] else ""
            own = (one["variant"], one["reference"]) == ("fp32", "fp32")
            found = metrics.measure(
                scores["scores"][index],
                member,
                fprs=one["fpr"],
                mode=split.mode,
                seed=seed_for(one["seed"], "measure"),
                baseline=None if own else at_fp32[each["name"]],
            )
            rows += _rows(one, each["name"], reference, targets, found)
            each_curve = [metrics.roc(*pair) for pair in zip(scores["scores"][index], member, strict=True)]
            name = f"{each['name']}/{reference}"
            curves |= {f"{name}/{row}": metrics.thin(curve) for row, curve in zip(targets, each_curve, strict=True)}
            curves[f"{name}/all"] = metrics.mean_curve(each_curve)
            progress((index + 1) / len(scores["attacks"]))
        yield {"rows": [asdict(row) for row in rows], "curves": curves}


def utility(params: Params, inputs: Mapping[str, Any], runtime: Runtime, progress: Progress) -> Iterator[Artifacts]:
    """Accuracy, agreement with full precision and size of one variant."""
    split: Splits = inputs["splits"]
    labels = inputs["images"].labels[split.test]
    for one in params:
        member = split.member[one["targets"]]
        predicted, correct = _answers(inputs["outputs"])
        own = one["variant"] == "fp32"
        full, full_correct = (None, None) if own else _answers(inputs["baseline"])
        found = metrics.accuracy_on_test(predicted, labels, mode=split.mode, baseline=full)
        found |= metrics.accuracy_on_members(correct, member, mode=split.mode, baseline=full_correct)
        if full is not None:
            found |= metrics.agreement(predicted, full, mode=split.mode)
        rows = _rows(one, "", "", one["targets"], found)
        rows += _size_rows(one, [size(each) for each in inputs["weights"]])
        yield {"rows": [asdict(row) for row in rows]}


def specification(data: Images, split: Splits, network: str, options: Mapping[str, Any]) -> ModelSpec:
    """The network for this data set, standardising by the pool's statistics."""
    mean, std = channel_statistics(data, split.pool)
    _, channels, size, _ = data.pixels.shape
    return ModelSpec(network, dict(options), len(data.class_names), channels, size, mean=mean, std=std)


def calibration_images(
    data: Images, split: Splits, spec: ModelSpec, params: Mapping[str, Any], device: str
) -> torch.Tensor:
    """The images that a quantizer may look at, standardised, all rounds one after the other.

    The draw depends on the model, not on the quantizer, so that quantizers are compared on the
    same images.
    """
    how, row = params["calibration"], params["model"]
    seed = seed_for(params["seed"], "calibration", row)
    source = split.pool[split.member[row]] if how["source"] == "members" else split.calibration
    chosen = np.sort(np.random.default_rng(seed).choice(source, how["records"], replace=False))
    pixels = torch.from_numpy(data.pixels[chosen]).to(device)
    chance = torch.Generator().manual_seed(seed_for(seed, "augment"))
    rounds = [augmented(pixels, tuple(how["augment"]), chance) for _ in range(how["rounds"])]
    return standardize(torch.cat(rounds), spec.mean, spec.std)


def applicable(names: Sequence[str], *, recalibrated: bool, population: int) -> list[Attack]:
    """The attacks that config entries stand for, each once: those that so many population records are enough for, and
    of a recalibrated view only those that it serves.
    """
    attacks = dict.fromkeys(attack for name in names for attack in expand(name))
    fed = [attack for attack in attacks if attack.fewest_population <= population]
    if not recalibrated:
        return fed
    return [attack for attack in fed if attack.uses_references and attack.signal in RECALIBRATED_SIGNALS]


def view_of(
    data: Images, split: Splits, row: int, target: Outputs, answers: Mapping[int, Outputs], *, seed: int
) -> AttackView:
    """What an attack on one target may see: its answers and its references', and no membership of its own."""
    rows, use = references(split, row, seed=seed)
    found = [answers[reference] for reference in rows.tolist()]
    return AttackView(
        target=target.signals,
        references=np.stack([answer.signals for answer in found]),
        member=split.member[rows],
        use=use,
        population_target=target.population_signals,
        population_references=np.stack([answer.population_signals for answer in found]),
        labels=data.labels[split.pool],
    )


def _spec(weights: Weights) -> ModelSpec:
    """The spec, which every artifact of the store has."""
    if weights.spec is None:
        raise ModelError("weights without a spec cannot be loaded: the architecture is not known")
    return weights.spec


def _quantizer(params: Mapping[str, Any]) -> Any:
    kind = registry.find(registry.QUANTIZERS, params["quantizer"], kind="quantizer")
    return kind(**params["options"], levels=params["levels"])


def _epoch(progress: Progress, epochs: int, epoch: int, loss: float) -> None:
    progress(epoch / epochs)


def _answers(found: Sequence[Outputs]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of the test records, and which pool records are classified correctly, by target."""
    correct = [answer.signals[:, 0, SIGNALS.index("correct")] for answer in found]
    return np.stack([answer.test_predictions for answer in found]), np.stack(correct)


def _rows(about: Mapping[str, Any], attack: str, reference: str, targets: Sequence[int], found: Any) -> list[Row]:
    """Rows of every metric: the mean over the targets first, then target by target."""
    head = (about["variant"], about["quantizer"], about["levels"], attack, reference)
    rows = []
    for metric, total in found.aggregate.items():
        rows.append(Row(*head, "all", metric, total))
        singles = zip(targets, found.targets[metric], strict=True)
        rows += [Row(*head, str(row), metric, one) for row, one in singles]
    return rows


def _size_rows(about: Mapping[str, Any], measured: Sequence[Mapping[str, float]]) -> list[Row]:
    head = (about["variant"], about["quantizer"], about["levels"], "", "")
    rows = []
    for metric in measured[0]:
        values = [float(one[metric]) for one in measured]
        rows.append(Row(*head, "all", metric, Measure(sum(values) / len(values))))
        rows += [Row(*head, str(row), metric, Measure(v)) for row, v in zip(about["targets"], values, strict=True)]
    return rows
