"""Networks that have learnt their members: the answers that are kept of each.

    python benchmarks/memorised.py CONFIG --store STORE [--data PATH] [--models 0 1 2] [--only NAME ...]
        [--again]

reads the answers of `bitleak audit CONFIG --store STORE` (a population; `--models` makes it in parts),
asks each model in the settings of `SETTINGS` as well, and writes what is kept of a model into one small
file, `memorised_answers/model-NN.npz`: the confidence log p / (1 - p) of the true class for every record
and query as float16, and a few figures. A setting that a file has is not made again, and a file is
replaced as a whole, so that a part can end at any moment. Weights are not kept. The tables are made from
these files alone, by `memorised_tables.py`.

Networks of the same members and seeds that are trained anew, on another machine or in another arithmetic,
are other networks: with `--again`, they are kept apart, in `again-NN.npz`.

The settings are the paper's known differences, for BRECQ at 1.58 bits with the last layer at 8, by the
default preset:

    grid      zero need not be in range of a grid (`grid: paper`)
    tensor    one grid per tensor, not per output channel
    norms     batch norm's statistics re-estimated after quantization, on 512 members and 512 non-members
              without augmentation (the published code does so for OBC)
    share     as many calibration images as make the paper's share of the members: 1,024 of 25,000
    strangers 1,024 test images as the calibration set, which no model was trained on: the paper has members,
              so that this is no difference of its protocol, but shows what it does that they are members
    queries   two random crops with a random flip, drawn anew for every model, instead of the image and
              its mirror image
"""

import argparse
import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bitleak import audit as library
from bitleak.config import read_config, validate
from bitleak.core.seeds import seed_for
from bitleak.core.types import (
    CORRECT,
    LOGIT_SCALED,
    Images,
    Outputs,
    Splits,
    Weights,
)
from bitleak.core.variants import FULL
from bitleak.engine.codecs import decoded
from bitleak.engine.store import Store

FOLDER = Path(__file__).with_name("memorised_answers")
POPULATION = "population.npz"
FIRST, AGAIN = "model", "again"
BASE = "brecq-1.58+last8"
WEIGHT_CHANGES = ("grid", "tensor", "norms")
FRESH, STRANGERS, SHARE = "queries", "strangers", "share"
PAPER_SHARE = 1024 / 25_000
NORM_RECORDS = 512
BATCH = 64


class Setting(NamedTuple):
    """What is done to a model beyond the audit's variants.

    Attributes:
        changes: Names of the differences; of `WEIGHT_CHANGES` and `FRESH`.
        full: Whether the weights stay at full precision.
    """

    changes: tuple[str, ...]
    full: bool = False

    @property
    def name(self) -> str:
        """Name among the answers, such as `brecq-1.58+last8/grid+norms`."""
        return f"{FULL if self.full else BASE}/{'+'.join(self.changes)}"


SETTINGS = (
    Setting((FRESH,), full=True),
    Setting(("norms",), full=True),
    *[Setting((change,)) for change in (*WEIGHT_CHANGES, FRESH, SHARE, STRANGERS)],
    Setting(("tensor", "norms", FRESH, SHARE)),
    Setting(("tensor", "norms", FRESH)),
    Setting(("tensor", "norms")),
    Setting(("tensor", FRESH)),
    Setting(("grid", "norms", FRESH)),
)
"""Each difference alone, all of them, and all but one. The weights of a whole tensor have both signs, so that zero
is in range of its grid in any case: with `tensor`, `grid` changes nothing and is left out, and all is all but `grid`.
"""


@dataclass
class ModelFile:
    """What is kept of one model.

    Attributes:
        path: Its file.
        confidences: By variant, `[records + population, queries]`.
        facts: By variant, plain values: accuracies in percent, seconds.
    """

    path: Path
    confidences: dict[str, np.ndarray]
    facts: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "ModelFile":
        """Return the file's content, empty if there is none."""
        if not path.exists():
            return cls(path, {}, {})
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(bytes(arrays.pop("facts")).decode())
        return cls(path, arrays, facts)

    def add(self, name: str, outputs: Outputs, facts: Mapping[str, Any]) -> None:
        """Keep the answers of a variant, and write the file."""
        planes = [
            signals[..., LOGIT_SCALED] for signals in (outputs.signals, outputs.population_signals)
        ]
        self.confidences[name] = np.concatenate(planes).astype(np.float16)
        self.facts[name] = dict(facts)
        text = np.frombuffer(json.dumps(self.facts).encode(), np.uint8)
        write(self.path, {"facts": text, **self.confidences})


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an `.npz` file in one step."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(content.getvalue())
    os.replace(partial, path)


class Audited:
    """The results of an audit in its store, and the models in further settings.

    Args:
        config: Its config.
        store: The folder.
        data: As in `bitleak audit`.
    """

    def __init__(self, config: Path, store: Path, data: Path | None) -> None:
        self.config = validate(read_config(config))
        self.plan = library.prepare(self.config, data=data).plan
        self.store = Store(store)
        self.keys = {(task.stage, task.label): task.key for task in self.plan.tasks}
        self.images: Images = self.read(self.plan.images)
        self.splits: Splits = self.read(self.plan.splits)
        (trained,) = [task for task in self.plan.tasks if task.stage == "splits"]
        self.with_canaries: Splits = self.read(trained.key)
        self.bases = [entry for entry in self.config.quantize if entry.variant == BASE]
        self.variants = [FULL, *[entry.variant for entry in self.config.quantize]]

    def read(self, key: str) -> Any:
        """Return a result of the store."""
        return decoded(self.store.read_key(key))

    def has(self, stage: str, label: str) -> bool:
        """Return whether a task's result is there."""
        return self.store.find(self.keys[stage, label]) is not None

    def weights(self, model: int) -> Weights:
        """Return a trained model."""
        return self.read(self.keys["train", f"train model {model}"])

    def calibration_sets(self) -> np.ndarray:
        """Return for each model and audited record whether the model's calibration set holds it."""
        from bitleak.steps.networks import calibration_records

        split, seed = self.with_canaries, self.config.seed
        usual = (self.bases or self.config.quantize)[0].calibration
        sets = [
            calibration_records(split, usual, model=model, seed=seed)
            for model in range(len(split.member))
        ]
        return np.array([np.isin(self.splits.pool, chosen) for chosen in sets])

    def accuracies(self, model: int, outputs: Outputs) -> dict[str, float]:
        """Return the shares of right answers in percent: members, non-members, test records."""
        right = outputs.signals[:, 0, CORRECT] > 0.5
        member = self.splits.member[model]
        test = outputs.test_predictions == self.images.labels[self.splits.test]
        parts = {"members": right[member], "others": right[~member], "test": test}
        return {part: round(100 * float(share.mean()), 3) for part, share in parts.items()}


def collect(options: argparse.Namespace) -> None:
    """Write the files of the models."""
    import torch

    torch.set_num_threads(1)
    audited = Audited(options.config, options.store, options.data)
    split = audited.splits
    write(
        options.folder / POPULATION,
        {
            "member": np.packbits(split.member, axis=1),
            "calibration": np.packbits(audited.calibration_sets(), axis=1),
            "labels": audited.images.labels[split.pool].astype(np.uint8),
            "seed": np.array(audited.config.seed),
        },
    )
    for model in options.models or range(len(split.member)):
        if not audited.has("query", f"query {FULL} of model {model}"):
            print(f"model {model}: not in the store yet", flush=True)
            continue
        kind = AGAIN if options.again else FIRST
        file = ModelFile.read(options.folder / f"{kind}-{model:02d}.npz")
        for variant in audited.variants:
            label = f"query {variant} of model {model}"
            if variant not in file.confidences and audited.has("query", label):
                outputs = audited.read(audited.keys["query", label])
                file.add(variant, outputs, audited.accuracies(model, outputs))
        left = [
            setting
            for setting in SETTINGS
            if setting.name not in file.confidences
            and (options.only is None or setting.name in options.only)
        ]
        if left and not audited.bases:
            raise SystemExit(
                f"{options.config}: the settings are of {BASE}, which its section quantize has not; add {{name: brecq, "
                "levels: 3, last: 256}, or write --only to keep the answers of the audit alone"
            )
        weights = RoundedWeights(audited, model) if left else None
        for setting in left:
            assert weights is not None
            started = time.process_time()
            outputs = asked(audited, model, setting, weights)
            facts = audited.accuracies(model, outputs)
            facts["seconds"] = round(time.process_time() - started, 1)
            file.add(setting.name, outputs, facts)
            print(f"model {model}: {setting.name} {facts}", flush=True)


class RoundedWeights:
    """The weights of one model by BRECQ, each made once.

    Args:
        audited: The audit.
        model: The model.
    """

    def __init__(self, audited: Audited, model: int) -> None:
        self.audited, self.model = audited, model
        self.full = audited.weights(model)
        self._made: dict[tuple[str, ...], Weights] = {}

    def of(self, setting: Setting) -> Weights:
        """Return the weights in a setting."""
        if setting.full and "norms" not in setting.changes:
            return self.full
        if setting.full:
            return with_own_statistics(self.audited, self.model, self.full, self.full)
        codes = tuple(
            name for name in ("grid", "tensor", SHARE, STRANGERS) if name in setting.changes
        )
        if codes not in self._made:
            self._made[codes] = self._rounded(codes)
        if "norms" not in setting.changes:
            return self._made[codes]
        if (*codes, "norms") not in self._made:
            self._made[*codes, "norms"] = with_own_statistics(
                self.audited, self.model, self.full, self._made[codes]
            )
        return self._made[*codes, "norms"]

    def _rounded(self, changes: tuple[str, ...]) -> Weights:
        """Return the weights on a grid: the audit's own, or made here as the audit makes its own."""
        import torch

        from bitleak.models import load
        from bitleak.models.precision import exact_float32
        from bitleak.quantizers.brecq import BRECQ
        from bitleak.steps.networks import calibration_images

        audited, model, spec = self.audited, self.model, self.full.spec
        assert spec is not None
        if not changes:
            return audited.read(audited.keys["quantize", f"{BASE} of model {model}"]).dequantize()
        seed, split, calibration = (
            audited.config.seed,
            audited.with_canaries,
            audited.bases[0].calibration,
        )
        if STRANGERS in changes:
            split = replace(split, calibration=split.test)
            calibration = replace(calibration, source="holdout")
        if SHARE in changes:
            records = round(PAPER_SHARE * split.member[model].sum())
            calibration = replace(calibration, records=records)
        images = calibration_images(
            audited.images,
            split,
            spec,
            calibration,
            model=model,
            seed=seed,
            device="cpu",
        )
        options = dict(audited.bases[0].options)
        if "grid" in changes:
            options["grid"] = "paper"
        if "tensor" in changes:
            options["granularity"] = "tensor"
        with exact_float32():
            generator = torch.Generator().manual_seed(seed_for(seed, "quantize", model))
            codes = BRECQ(**options, levels=3)(load(self.full).eval(), images, generator)
        return replace(codes, spec=spec).dequantize()


def asked(audited: Audited, model: int, setting: Setting, weights: RoundedWeights) -> Outputs:
    """Return the answers of a model in a setting."""
    from bitleak.models import load
    from bitleak.models.fused_network import fused_by_spec
    from bitleak.query import outputs

    floats = weights.of(setting)
    spec = floats.spec
    assert spec is not None
    network = fused_by_spec(load(floats).eval(), spec)
    fresh = FRESH in setting.changes
    queries = audited.config.query.augment
    answered = outputs(
        network,
        audited.images,
        audited.splits,
        spec=spec,
        queries=queries[:1] if fresh else queries,
        batch=BATCH,
    )
    if not fresh:
        return answered
    pool, population = (
        fresh_signals(audited, network, spec, records, model, name, len(queries))
        for name, records in (
            ("pool", audited.splits.pool),
            ("population", audited.splits.population),
        )
    )
    # accuracies are those of the images as they are
    pool[:, 0, CORRECT] = answered.signals[:, 0, CORRECT]
    return replace(answered, signals=pool, population_signals=population)


def with_own_statistics(audited: Audited, model: int, full: Weights, floats: Weights) -> Weights:
    """Return weights whose batch norms normalise what their own layers give.

    At full precision only the statistics change. BRECQ folds batch norm, so that its weights hold gamma /
    sigma, and the norm is a shift. With gamma's size and beta given back, and the statistics of the
    quantized layer's output, the norm does what one that was never folded does: a factor of a layer's
    output changes nothing.
    """
    import torch
    from torch import nn

    from bitleak.data.augment import standardize
    from bitleak.models import load
    from bitleak.quantizers.network.norm_statistics import reestimate

    original, network = load(full).eval(), load(floats).eval()
    for name, norm in network.named_modules():
        if isinstance(norm, nn.BatchNorm2d) and floats is not full:
            before = original.get_submodule(name)
            assert isinstance(before, nn.BatchNorm2d)
            with torch.no_grad():
                norm.weight.copy_(before.weight.abs())  # its sign is in the folded weights
                norm.bias.copy_(before.bias)
    spec, split = full.spec, audited.with_canaries
    assert spec is not None
    draw = np.random.default_rng(seed_for(audited.config.seed, "norm records", model))
    sides = (split.pool[split.member[model]], split.pool[~split.member[model]])
    chosen = np.concatenate([draw.choice(side, NORM_RECORDS, replace=False) for side in sides])
    pixels = torch.from_numpy(audited.images.pixels[np.sort(chosen)])
    reestimate(network, standardize(pixels, spec.mean, spec.std))
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    return replace(floats, tensors={name: tensors[name] for name in floats.tensors})


def fresh_signals(
    audited: Audited,
    network: Any,
    spec: Any,
    records: np.ndarray,
    model: int,
    part: str,
    queries: int,
) -> np.ndarray:
    """Return the signals of records under random crops and flips of the model's own."""
    import torch

    from bitleak.core.signals import signals
    from bitleak.data.augment import Standard, augmented
    from bitleak.models.layout import evaluation_format
    from bitleak.models.precision import exact_float32

    layout = evaluation_format(network, spec, "cpu")
    network = network.to(memory_format=layout)
    standard = Standard.on("cpu", spec.mean, spec.std, layout)
    seed = seed_for(audited.config.seed, "fresh queries", part, model)
    generator = torch.Generator().manual_seed(seed)
    planes = []
    with torch.inference_mode(), exact_float32():
        for _ in range(queries):
            logits = []
            for start in range(0, len(records), BATCH):
                pixels = torch.from_numpy(audited.images.pixels[records[start : start + BATCH]])
                changed = augmented(pixels, ("crop", "flip"), generator)
                logits.append(network(standard(changed)).double().numpy())
            planes.append(signals(np.concatenate(logits), audited.images.labels[records]))
    return np.stack(planes, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=int, nargs="+")
    parser.add_argument("--only", nargs="*", help="names of further settings; all by default")
    parser.add_argument("--again", action="store_true", help="the networks are trained anew")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    collect(parser.parse_args())


if __name__ == "__main__":
    main()
