"""One trained network on 10,000 CIFAR images: tier 0, and the same three attacks by public auditors.

    python benchmarks/auditors.py --data cifar10 [--records 10000] [--out DIR] [--others PYTHON]

Nothing is installed by this script; an auditor that cannot be imported is skipped with the reason.
`--others` is the interpreter of an environment for auditors whose requirements exclude bitleak's. Run
with adversarial-robustness-toolbox 1.20.1, privacy-meter 1.0.1 (needs tensorflow and opacus) and
tensorflow-privacy 0.8.12 (0.9.0 has no membership attacks in its wheel; needs tensorflow-cpu 2.15.1,
tf-keras 2.15.1, tensorflow-probability 0.22.1, dm-tree, dp-accounting 0.4.3, statsmodels, pandas 2.2.3
and numpy 1.26).

A small network is trained on half of the images, then each auditor runs in a process of its own, from
the network and the images to the figures of three attacks. Seconds are those after the imports, whose
own seconds are shown too; one thread for all. `forward` is one evaluation of the network on all
images, in batches of 256, as a floor.

| auditor | threshold on the loss | threshold on the entropy | the label alone |
|---|---|---|---|
| bitleak | `threshold` | `threshold-entropy` | `threshold-correct` |
| art | `MembershipInferenceBlackBox`, logistic regression on the loss | the same on entropies given as `pred` | `MembershipInferenceBlackBoxRuleBased` |
| privacy-meter | `PopulationMetric` with `ModelLoss` | with a signal | with a signal |
| tensorflow-privacy | `THRESHOLD_ATTACK` | `THRESHOLD_ENTROPY_ATTACK` | `THRESHOLD_ATTACK` on losses of 0 and 1 |

art and privacy-meter evaluate the network anew for every attack. tensorflow-privacy is given answers, so
its network is evaluated once, by the caller. bitleak's seconds include the check on members, the
baseline, the population attack, the control and all intervals, which the others do not have; `stages`
are their seconds.
"""  # noqa: E501

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPOCHS = 12


def network() -> nn.Sequential:
    """Return the small network."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def standardised(images: np.ndarray) -> np.ndarray:
    """Return the network's inputs."""
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    return ((images / 255 - mean) / deviation).astype(np.float32)


def entropy(logits: np.ndarray) -> np.ndarray:
    """Return the entropies of the softmax."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(np.exp(logs) * logs).sum(axis=1)


def prepare(data: Path, records: int, folder: Path) -> None:
    """Write images, labels and membership, and a network that was trained on the members."""
    from bitleak import registry

    dataset = registry.resolve(registry.DATASETS, "hub", kind="dataset")(path=str(data))
    images = dataset.load(None)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(images.labels))[:records]
    member = np.arange(records) < records // 2
    order = rng.permutation(records)
    drawn, member = drawn[order], member[order]
    pixels, labels = images.pixels[drawn], images.labels[drawn]
    np.savez(folder / "records.npz", images=pixels, labels=labels, member=member)
    torch.manual_seed(0)
    model = network()
    inputs, goals = torch.from_numpy(standardised(pixels[member])), torch.from_numpy(labels[member])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(64):
            loss = nn.functional.cross_entropy(model(inputs[batch]), goals[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(model.state_dict(), folder / "network.pt")


def by_bitleak(model: nn.Module, images: np.ndarray, labels: np.ndarray, member: np.ndarray) -> Any:
    import sklearn.decomposition
    import sklearn.ensemble  # noqa: F401

    import bitleak.audit.target.model_audit
    import bitleak.report

    def audit() -> dict[str, Any]:
        stages: dict[str, float] = {"check on members": time.process_time()}
        result = bitleak.audit_model(
            model,
            images,
            labels,
            member,
            mean=MEAN,
            deviation=DEVIATION,
            on_step=lambda _, stage: stages.setdefault(stage, time.process_time()),
        )
        result.summary()
        ends = [*list(stages.values())[1:], time.process_time()]
        figures: dict[str, Any] = {
            name: float(result.figure("auc", attack=attack).value)
            for name, attack in (
                ("loss", "threshold"),
                ("entropy", "threshold-entropy"),
                ("label", "threshold-correct"),
            )
        }
        figures["blind"] = result.baseline.auc
        spans = zip(stages.items(), ends, strict=True)
        figures["stages"] = {stage: round(end - start, 2) for (stage, start), end in spans}
        return figures

    return audit


def by_art(model: nn.Module, images: np.ndarray, labels: np.ndarray, member: np.ndarray) -> Any:
    from art.attacks.inference.membership_inference import (
        MembershipInferenceBlackBox,
        MembershipInferenceBlackBoxRuleBased,
    )
    from art.estimators.classification import PyTorchClassifier
    from sklearn.metrics import roc_auc_score

    inputs = standardised(images)

    def audit() -> dict[str, float]:
        classifier = PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(reduction="none"),
            input_shape=(3, 32, 32),
            nb_classes=10,
        )
        inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
        gap = MembershipInferenceBlackBoxRuleBased(classifier)
        hits = gap.infer(inputs[inside], labels[inside])
        false_alarms = gap.infer(inputs[outside], labels[outside])
        figures = {"label": float(np.mean(hits) + 1 - np.mean(false_alarms)) / 2}
        # An attack is fitted on one half of the records, and tested on the other.
        half, rest = len(inside) // 2, len(outside) // 2
        fitted, fitted_out = inside[:half], outside[:rest]
        tested = np.concatenate([inside[half:], outside[rest:]])
        losses = MembershipInferenceBlackBox(classifier, input_type="loss", attack_model_type="lr")
        losses.fit(inputs[fitted], labels[fitted], inputs[fitted_out], labels[fitted_out])
        scores = losses.infer(inputs[tested], labels[tested], probabilities=True)
        figures["loss"] = float(roc_auc_score(member[tested], np.ravel(scores)))
        entropies = entropy(classifier.predict(inputs))[:, None]
        surprise = MembershipInferenceBlackBox(classifier, attack_model_type="lr")
        surprise.fit(pred=entropies[fitted], test_pred=entropies[fitted_out])
        scores = surprise.infer(None, pred=entropies[tested], probabilities=True)
        figures["entropy"] = float(roc_auc_score(member[tested], np.ravel(scores)))
        return figures

    return audit


def by_tensorflow_privacy(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, member: np.ndarray
) -> Any:
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        membership_inference_attack as attacks,
    )
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import (
        AttackInputData,
        AttackType,
        SlicingSpec,
    )

    inputs = torch.from_numpy(standardised(images))

    def audit() -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(batch) for batch in inputs.split(256)]).numpy()
        given = AttackInputData(
            logits_train=logits[member],
            logits_test=logits[~member],
            labels_train=labels[member],
            labels_test=labels[~member],
        )
        kinds = (AttackType.THRESHOLD_ATTACK, AttackType.THRESHOLD_ENTROPY_ATTACK)
        whole = SlicingSpec(entire_dataset=True)
        results = attacks.run_attacks(given, whole, attack_types=kinds).single_attack_results
        figures = {"loss": results[0].get_auc(), "entropy": results[1].get_auc()}
        wrong = (logits.argmax(axis=1) != labels).astype(np.float64)
        by_label = AttackInputData(loss_train=wrong[member], loss_test=wrong[~member])
        results = attacks.run_attacks(by_label, whole, attack_types=kinds[:1])
        figures["label"] = results.single_attack_results[0].get_auc()
        return {name: float(value) for name, value in figures.items()}

    return audit


def by_privacy_meter(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, member: np.ndarray
) -> Any:
    from privacy_meter.audit import Audit
    from privacy_meter.constants import InferenceGame
    from privacy_meter.dataset import Dataset
    from privacy_meter.hypothesis_test import linear_itp_threshold_func
    from privacy_meter.information_source import InformationSource
    from privacy_meter.information_source_signal import ModelLoss, Signal
    from privacy_meter.metric import PopulationMetric
    from privacy_meter.model import PytorchModelTensor

    class ByLogits(Signal):  # type: ignore[misc]
        """A signal of a model's logits and the labels; smaller is more likely a member."""

        def __init__(self, value: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
            self.value = value

        def __call__(
            self, models: Any, datasets: Any, model_to_split_mapping: Any, extra: Any
        ) -> list[np.ndarray]:
            values = []
            for model, place in zip(models, model_to_split_mapping, strict=True):
                number, split, given, goal = place
                x, y = (datasets[number].get_feature(split, name) for name in (given, goal))
                values.append(self.value(model.get_logits(x), y.numpy()))
            return values

    inputs, goals = torch.from_numpy(standardised(images)), torch.from_numpy(labels)
    outside = np.flatnonzero(~member)
    parts = {"train": np.flatnonzero(member), "test": outside[::2], "population": outside[1::2]}

    def dataset(names: dict[str, str]) -> Any:
        data = {
            split: {"x": inputs[parts[part]], "y": goals[parts[part]]}
            for split, part in names.items()
        }
        return Dataset(data, default_input="x", default_output="y", default_group="g")

    def audit() -> dict[str, float]:
        wrapped = PytorchModelTensor(model, nn.CrossEntropyLoss())
        target = InformationSource([wrapped], [dataset({"train": "train", "test": "test"})])
        reference = InformationSource([wrapped], [dataset({"train": "population"})])
        signals = {
            "loss": ModelLoss(),
            "entropy": ByLogits(lambda logits, _: entropy(logits)),
            "label": ByLogits(lambda logits, labels: 1.0 * (logits.argmax(axis=1) != labels)),
        }
        metrics = []
        for signal in signals.values():
            metrics.append(
                PopulationMetric(
                    target_info_source=target,
                    reference_info_source=reference,
                    signals=[signal],
                    hypothesis_test_func=linear_itp_threshold_func,
                )
            )
        job = Audit(
            metrics=metrics,
            inference_game_type=InferenceGame.PRIVACY_LOSS_MODEL,
            target_info_sources=target,
            reference_info_sources=reference,
            save_logs=False,
        )
        job.prepare()
        return {
            name: float(result[0].roc_auc) for name, result in zip(signals, job.run(), strict=True)
        }

    return audit


AUDITORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "bitleak": ("bitleak", by_bitleak),
    "art": ("adversarial-robustness-toolbox", by_art),
    "tensorflow-privacy": ("tensorflow-privacy", by_tensorflow_privacy),
    "privacy-meter": ("privacy-meter", by_privacy_meter),
}


def measure(name: str, folder: Path) -> None:
    """Run one auditor in this process, and print seconds and figures as JSON."""
    torch.set_num_threads(1)
    with np.load(folder / "records.npz") as arrays:
        images, labels, member = arrays["images"], arrays["labels"], arrays["member"]
    model = network()
    model.load_state_dict(torch.load(folder / "network.pt", weights_only=True))
    model.eval()
    package, make = AUDITORS[name]
    inputs = torch.from_numpy(standardised(images))
    with torch.inference_mode():
        model(inputs[:256])
        start = time.process_time()
        for batch in inputs.split(256):
            model(batch)
        forward = time.process_time() - start
    start = time.process_time()
    try:
        audit = make(model, images, labels, member)
    except ImportError as error:
        print(json.dumps({"skipped": f"{type(error).__name__}: {error}"}))
        return
    imported = time.process_time() - start
    cpu, wall = time.process_time(), time.monotonic()
    figures = audit()
    seconds = {
        "cpu": time.process_time() - cpu,
        "wall": time.monotonic() - wall,
        "imports": imported,
        "forward": forward,
    }
    version = importlib.metadata.version(package)
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    print(json.dumps({"version": version, **rounded, "figures": figures}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="keeps records and network")
    parser.add_argument("--others", default=sys.executable, help="interpreter of the others")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options.child[0], Path(options.child[1]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "network.pt").exists():
            prepare(options.data, options.records, folder)
        # In turns, so that a load that changes meets all of them.
        for repeat in range(options.repeats):
            for name in AUDITORS:
                python = sys.executable if name == "bitleak" else options.others
                command = [python, str(Path(__file__).resolve()), "--data", str(options.data)]
                finished = subprocess.run(
                    [*command, "--child", name, str(folder.resolve())],
                    capture_output=True,
                    text=True,
                    cwd=temporary,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                    check=False,
                )
                lines = finished.stdout.strip().splitlines() or [finished.stderr.strip()[-300:]]
                print(f"{repeat + 1} {name}: {lines[-1]}", flush=True)


if __name__ == "__main__":
    main()
