"""The adapters: null tests through the real splits and views, and what a stage may look at."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stage_calls import run_stage

from bitleak import metrics
from bitleak.attacks import expand, forms_by_word, recalibrated, two_class_signals
from bitleak.config import CalibrationConfig
from bitleak.core.types import Images, ModelSpec, Outputs, Weights
from bitleak.data import make_splits
from bitleak.engine.codecs import encode
from bitleak.engine.worker import Runtime
from bitleak.models import build
from bitleak.steps import stages
from bitleak.steps.attack_targets import applicable, target_view
from bitleak.steps.networks import calibration_images

RECORDS = 20_000


def images(records, held_out=200):
    rng = np.random.default_rng(0)
    flags = np.zeros(records + held_out, dtype=bool)
    flags[records:] = True
    pixels = rng.integers(0, 256, (len(flags), 1, 2, 2)).astype(np.uint8)
    return Images(pixels, rng.integers(0, 2, len(flags)), ("a", "b"), flags)


def splits_of(data, mode, models):
    counts = {"models": models} if mode == "population" else {"shadows": models}
    targets = 2 if mode == "population" else 1
    return make_splits(
        data, mode=mode, targets=targets, calibration=0, population=100, seed=3, **counts
    )


def answers(split, *, effect, seed):
    """A model's confidence per record: how hard the record is, what membership adds, and noise."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1.5, split.member.shape[1])
    found = []
    for member in split.member:
        confidence = hard + effect * member + rng.normal(size=len(hard))
        found.append(
            Outputs(
                signals=two_class_signals(confidence[:, None]),
                population_signals=two_class_signals(rng.normal(size=(len(split.population), 1))),
                test_predictions=np.zeros(len(split.test), dtype=np.int64),
            )
        )
    return found


def attacked(data, split, found, *, control=False):
    """AUC of every attack on every target, through the stage itself."""
    references = list(range(len(split.member)))
    params = {
        "attacks": ["lira", "threshold"],
        "recalibrated": False,
        "control": control,
        "targets": split.targets.tolist(),
        "references": references,
        "seed": 0,
    }
    inputs = {
        "images": data,
        "splits": split,
        "targets": tuple(found[row] for row in split.targets),
        "references": tuple(found),
    }
    made = run_stage("attack", params, inputs)
    member = split.member[split.targets]
    return {
        attack["name"]: [
            metrics.auc(metrics.roc(*pair)) for pair in zip(scores, member, strict=True)
        ]
        for attack, scores in zip(made["attacks"], made["scores"], strict=True)
    }


@pytest.mark.parametrize("mode", ["population", "dedicated"])
@pytest.mark.parametrize("models", [6, 8, 16, 64])
def test_pure_noise_is_at_chance(mode, models):
    data = images(RECORDS)
    split = splits_of(data, mode, models)
    for name, areas in attacked(data, split, answers(split, effect=0.0, seed=1)).items():
        assert np.abs(np.array(areas) - 0.5).max() < 0.02, (name, areas)


@pytest.mark.parametrize("mode", ["population", "dedicated"])
@pytest.mark.parametrize("models", [6, 8, 16, 64])
def test_informative_references_say_nothing_about_a_target_of_noise(mode, models):
    data = images(RECORDS)
    split = splits_of(data, mode, models)
    found = answers(split, effect=2.0, seed=2)
    for name, areas in attacked(data, split, found, control=True).items():
        assert np.abs(np.array(areas) - 0.5).max() < 0.02, (name, areas)


def test_a_memorising_world_is_found_by_every_attack():
    data = images(2_000)
    split = splits_of(data, "population", 16)
    for name, areas in attacked(data, split, answers(split, effect=2.0, seed=2)).items():
        assert min(areas) > 0.6, (name, areas)


def test_the_view_leaves_out_target_and_complement():
    data = images(40)
    split = splits_of(data, "population", 8)
    found = answers(split, effect=1.0, seed=0)
    view = target_view(data, split, 2, found[2], dict(enumerate(found)), seed=0)
    assert len(view.references) == 6
    for left_out in (2, 3):
        assert not (view.references == found[left_out].signals).all(axis=(1, 2, 3)).any()
    assert (view.member.sum(axis=0) == 3).all()
    assert view.use.all()


def calibrated(data, split, how, model=1):
    calibration = CalibrationConfig(
        **{"source": "members", "records": 8, "rounds": 1, "augment": (), **how}
    )
    spec = ModelSpec("none", {}, 2, 1, 2, mean=(0.0,), std=(1.0,))
    return calibration_images(data, split, spec, calibration, model=model, seed=0, device="cpu")


def pixels_of(found):
    return {tuple((image * 255).round().int().flatten().tolist()) for image in found}


def test_calibration_images_are_the_models_own_members():
    data = images(200)
    split = splits_of(data, "population", 6)
    own = {tuple(image.flatten().tolist()) for image in data.pixels[split.pool[split.member[1]]]}
    assert pixels_of(calibrated(data, split, {})) <= own
    assert pixels_of(calibrated(data, split, {}, model=0)) != pixels_of(calibrated(data, split, {}))


def test_held_out_calibration_images_are_nobodys_members():
    data = images(200)
    split = make_splits(
        data, mode="population", models=6, targets=1, calibration=20, population=50, seed=0
    )
    held_out = {tuple(image.flatten().tolist()) for image in data.pixels[split.calibration]}
    assert pixels_of(calibrated(data, split, {"source": "holdout"})) <= held_out


def test_rounds_repeat_the_same_records_under_other_augmentations():
    data = images(200)
    split = splits_of(data, "population", 6)
    found = calibrated(data, split, {"rounds": 3, "augment": ("flip",)})
    assert found.shape == (24, 1, 2, 2)
    rounds = found.view(3, 8, -1).sort(dim=2).values
    assert torch.equal(rounds[0], rounds[1])
    assert not torch.equal(found[:8], found[8:16])


def test_an_attack_with_too_few_population_records_has_no_row():
    names = ["rmia-online", "quantile", "population", "lira-online-shrunk"]

    def left(population, *, recalibrated=False):
        return [
            attack.name
            for attack in applicable(names, recalibrate=recalibrated, population=population)
        ]

    assert left(50) == [
        "rmia-online",
        "quantile-normal",
        "quantile-pinball",
        "population",
        "lira-online-shrunk",
    ]
    assert left(49) == ["rmia-online", "population", "lira-online-shrunk"]
    assert left(0) == ["lira-online-shrunk"]
    assert left(50, recalibrated=True) == [
        "rmia-online",
        "quantile-normal",
        "quantile-pinball",
        "lira-online-shrunk",
    ]


def test_a_recalibrated_view_serves_attacks_on_signals_that_follow_from_the_confidence():
    names = ["signals", "calibrated", "gap", "reference"]
    found = applicable(names, recalibrate=True, population=100)
    assert [attack.name for attack in found] == [
        *(each.name for each in expand("calibrated")),
        "reference",
    ]


def test_every_attack_that_applies_runs_on_a_recalibrated_view():
    data = images(200)
    split = splits_of(data, "population", 6)
    found = answers(split, effect=1.0, seed=0)
    view = recalibrated(target_view(data, split, 0, found[0], dict(enumerate(found)), seed=0))
    for attack in applicable(list(forms_by_word()), recalibrate=True, population=100):
        assert np.isfinite(attack(view)).all(), attack.name


def bytes_of(value):
    """Artifacts in a form that can be compared."""
    if isinstance(value, dict):
        return [(name, bytes_of(part)) for name, part in value.items()]
    return (
        (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
    )


def quantize_stage(params):
    data = images(200)
    data = replace(
        data, pixels=np.random.default_rng(1).integers(0, 256, (400, 1, 8, 8)).astype(np.uint8)
    )
    split = splits_of(data, "population", 4)
    spec = ModelSpec("cnn", {"width": 4}, 2, 1, 8, mean=(0.5,), std=(0.3,))
    state = {
        name: value.detach().numpy() for name, value in build(spec, seed=0).state_dict().items()
    }
    inputs = {"images": data, "splits": split, "weights": Weights(state, spec)}
    return stages.STAGES["quantize"](params, inputs, Runtime(), lambda done: None)


@pytest.mark.parametrize(
    ("name", "options"),
    [("obc", {}), ("gptq", {"polish": 2, "inputs": "quantized"}), ("adaround", {"iterations": 3})],
)
def test_precisions_quantized_in_one_call_are_the_bytes_of_single_calls(name, options):
    how = {"source": "members", "records": 40, "rounds": 2, "augment": ["flip"]}
    common = {"model": 1, "quantizer": name, "options": options, "seed": 5}
    params = [{**common, "levels": levels, "calibration": how} for levels in (4, 3)]
    params.append({**common, "levels": 3, "calibration": {**how, "records": 30}})
    together = [bytes_of(encode(found)) for found in quantize_stage(params)]
    alone = [bytes_of(encode(found)) for one in params for found in quantize_stage([one])]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert one == other
    assert together[1] != together[2]
