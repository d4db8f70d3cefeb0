"""`bitleak quantize`: what it writes and shows, that files come back bit for bit, and what it refuses."""

import csv
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image

from bitleak.core.errors import ModelError, StoreError
from bitleak.core.types import ModelSpec, QuantizedLayer, QuantizedWeights, Weights
from bitleak.data.digits import Digits
from bitleak.engine.codecs import encode
from bitleak.engine.keys import Task
from bitleak.engine.store import Store
from bitleak.models import build, load
from bitleak.query import logits
from bitleak.single_network import load_quantized, save_quantized
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

MEAN, STD = (0.3,), (0.37,)
SPEC = ModelSpec("cnn", {"width": 4}, 10, 1, 8, MEAN, STD)


@pytest.fixture(scope="session")
def state_dict(tmp_path_factory):
    """A network trained for a moment, as a .safetensors file."""
    recipe = Recipe(epochs=4, batch=32, augment=())
    trained = fit(Digits().load(None), np.arange(600), recipe, spec=SPEC, seed=0)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    safetensors.numpy.save_file(dict(trained.tensors), path)
    return path


@pytest.fixture
def quantize(bitleak, state_dict):
    """Runs the verb with defaults that work; an option that is None is left out."""

    def run(*more, **options):
        given = {
            "model": "cnn:width=4",
            "weights": state_dict,
            "data": "digits",
            "quantizer": "rtn",
            "levels": "4",
            "out": "out",
            **options,
        }
        pairs = [
            part
            for key, value in given.items()
            if value is not None
            for part in (f"--{key}", value)
        ]
        return bitleak("quantize", *pairs, *more)

    return run


def refused(result, *words):
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in out + err
    for word in words:
        assert word in err, err


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["rtn", "obc", "brecq"])
def test_the_files_give_the_same_logits_bit_for_bit(quantize, tmp_path, name, monkeypatch):
    from bitleak.single_network import network_figures

    made, original = [], network_figures.quantize_job
    monkeypatch.setattr(
        network_figures,
        "quantize_job",
        lambda *a, **k: (made.append(one) or one for one in original(*a, **k)),
    )
    code, out, err = quantize(quantizer=name, levels="4,3", preset="quick", calibration=64)
    assert code == 0, out + err
    images = Digits().load(None)
    for levels, quantized in zip((4, 3), made, strict=True):
        found = load_quantized(tmp_path / "out" / f"{name}-{levels}.safetensors")
        assert found.spec == quantized.spec
        assert dict(found.record) == dict(quantized.record)
        assert {layer.levels for layer in found.layers.values()} == {levels}
        answers = [
            logits(load(one.dequantize()), images, np.arange(100), spec=found.spec)
            for one in (quantized, found)
        ]
        assert answers[0].tobytes() == answers[1].tobytes()
        plain = safetensors.numpy.load_file(
            tmp_path / "out" / f"weights-{name}-{levels}.safetensors"
        )
        expected = quantized.dequantize().tensors
        assert {key: value.tobytes() for key, value in plain.items()} == {
            key: value.tobytes() for key, value in expected.items()
        }


def test_precisions_share_a_pass_over_the_images_and_are_what_each_is_alone(quantize, tmp_path):
    code, out, err = quantize(quantizer="obc", levels="4,3", calibration=64)
    assert code == 0, out + err
    told = [line.split(" levels")[0] for line in out.splitlines() if ": layer " in line]
    assert told[:4] == ["obc, 4", "obc, 3"] * 2
    together = [(tmp_path / "out" / f"obc-{levels}.safetensors").read_bytes() for levels in (4, 3)]
    for levels, expected in zip((4, 3), together, strict=True):
        code, out, err = quantize(
            quantizer="obc", levels=str(levels), calibration=64, out=tmp_path / "alone"
        )
        assert code == 0, out + err
        assert (tmp_path / "alone" / f"obc-{levels}.safetensors").read_bytes() == expected


def test_a_layer_that_keeps_full_precision_is_named_in_every_table(quantize, tmp_path, state_dict):
    code, out, err = quantize("--set", "layers={conv: fp32}", levels="3")
    assert code == 0, out + err
    folder = tmp_path / "out"
    line = lines(folder / "layers.csv")[-1]
    assert {
        key: line[key] for key in ("layer", "shape", "levels", "levels_counted", "relative_error")
    } == {
        "layer": "conv",
        "shape": "4x1x3x3",
        "levels": "fp32",
        "levels_counted": "",
        "relative_error": "",
    }
    assert any("conv " in row and "full precision" in row for row in out.splitlines())
    (precision,) = json.loads((folder / "summary.json").read_text())["precisions"]
    assert precision["full_precision_layers"] == ["conv"]
    found, before = load_quantized(folder / "rtn-3"), safetensors.numpy.load_file(state_dict)
    assert found.full_precision == ("conv",)
    assert "conv" not in found.layers
    assert found.rest["conv.weight"].tobytes() == before["conv.weight"].tobytes()
    grids = list(found.layers.values())
    packed = sum(-(-layer.codes.size * np.log2(3) // 8) + 5 * layer.scale.size for layer in grids)
    weights = sum(layer.codes.size for layer in grids)
    assert precision["bits_per_weight"] == pytest.approx((8 * packed + 32 * 36) / (weights + 36))


def test_the_tables_say_what_the_files_hold(quantize, tmp_path, state_dict):
    code, out, err = quantize(quantizer="obc", levels="16,3", last=256, calibration=100)
    assert code == 0, out + err
    folder = tmp_path / "out"
    found = load_quantized(folder / "obc-3")
    of_both = lines(folder / "layers.csv")
    layers = [line for line in of_both if line["precision"] == "3"]
    # the precisions share their work, which is counted for the first
    assert all(float(line["seconds"]) > 0 for line in of_both if line["precision"] == "16")
    assert [line["layer"] for line in layers] == list(found.layers)
    for line in layers:
        layer = found.layers[line["layer"]]
        assert int(line["levels"]) == layer.levels
        assert int(line["levels_counted"]) == max(
            len(set(row.ravel().tolist())) for row in layer.codes
        )
        assert float(line["relative_error"]) == found.record[line["layer"]]["relative_error"]
        assert float(line["seconds"]) >= 0
        assert set(json.loads(line["record"])) >= {"dead"}
    assert [int(line["levels"]) for line in layers][-1] == 256
    fp32, sixteen, three = lines(folder / "table.csv")
    assert int(fp32["bytes"]) == sum(
        array.nbytes for array in safetensors.numpy.load_file(state_dict).values()
    )
    assert int(three["bytes"]) < int(sixteen["bytes"]) < int(fp32["bytes"])
    assert float(three["bits_per_weight"]) < float(sixteen["bits_per_weight"]) < 32
    assert float(sixteen["agreement"]) > 0.8
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["quantizer"]["last"] == 256
    assert summary["calibration"] == {"source": "members", "records": 100}
    assert [one["levels"] for one in summary["precisions"]] == [16, 3]
    for one in summary["precisions"]:
        assert all((folder / name).is_file() for name in one["files"])
    assert "obc, 3 levels: layer 1 of" in out
    assert "relative error" in out
    assert "bits per weight" in out


def test_the_accuracies_are_those_of_the_files(quantize, tmp_path, state_dict):
    code, out, err = quantize("--mean", "0.3", "--std", "0.37", levels="3")
    assert code == 0, out + err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    images = Digits().load(None)
    full = build(SPEC)
    full.load_state_dict(
        {
            name: torch.tensor(value)
            for name, value in safetensors.numpy.load_file(state_dict).items()
        }
    )
    quantized = load(load_quantized(tmp_path / "out" / "rtn-3.json").dequantize())
    from bitleak.data.splits import make_splits

    test = make_splits(
        images, mode="population", models=2, targets=1, calibration=0, population=0, seed=0
    ).test
    predicted = [
        logits(network, images, test, spec=SPEC).argmax(1) for network in (full, quantized)
    ]
    right = [(one == images.labels[test]).mean() for one in predicted]
    assert summary["full_precision"]["accuracy"]["value"] == pytest.approx(right[0])
    assert summary["precisions"][0]["accuracy"]["value"] == pytest.approx(right[1])
    assert summary["precisions"][0]["agreement"]["value"] == pytest.approx(
        (predicted[0] == predicted[1]).mean()
    )
    assert summary["network"]["mean"] == [0.3]
    assert right[0] > 0.5  # the network has learnt something, so the comparison says something


def test_the_same_call_writes_the_same_codes(quantize, tmp_path):
    options = {"quantizer": "brecq", "calibration": 32, "levels": "3", "set": "iterations=20"}
    for out in ("one", "two"):
        assert quantize(**options, out=out)[0] == 0
    for name in ("brecq-3.safetensors", "brecq-3.json", "weights-brecq-3.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert quantize("--seed", "1", **options, out="three")[0] == 0
    assert (tmp_path / "one" / "brecq-3.json").read_bytes() != (
        tmp_path / "three" / "brecq-3.json"
    ).read_bytes()


@pytest.mark.parametrize("source", ["members", "holdout", "all"])
def test_no_test_record_is_shown_to_a_quantizer(source):
    from bitleak.single_network.quantization_job import draw_records
    from bitleak.single_network.quantize_request import QuantizeRequest

    images = Digits().load(None)
    request = QuantizeRequest(Path(), "digits", "rtn", "4", source=source, calibration=300)
    calibration, test = draw_records(images, request)
    outside = draw_records(images, QuantizeRequest(Path(), "digits", "rtn", "4"))[1]
    assert len(np.unique(calibration)) == 300
    assert not set(calibration) & set(test)
    assert set(test) <= set(outside)
    shown = len(set(calibration) & set(outside))
    assert {"members": shown == 0, "holdout": shown == 300, "all": 0 < shown < 300}[source]
    assert len(test) == len(outside) - shown


def test_a_setting_reaches_the_quantizer(quantize, tmp_path):
    assert quantize("--set", "granularity=tensor", "--set", 'layers={"conv*": 16}')[0] == 0
    found = load_quantized(tmp_path / "out" / "rtn-4")
    assert {len(layer.scale) for layer in found.layers.values()} == {1}
    assert {layer.levels for layer in found.layers.values()} == {16, 4}
    made = json.loads((tmp_path / "out" / "rtn-4.json").read_text())["quantizer"]
    assert made["granularity"] == "tensor"


def test_a_model_of_a_store_brings_its_network(bitleak, tmp_path, state_dict):
    store = Store(tmp_path / "store")
    weights = Weights(safetensors.numpy.load_file(state_dict), SPEC)
    folder = store.write(Task("train", "1"), encode(weights), {})
    arguments = [
        "--quantizer",
        "rtn",
        "--levels",
        "4",
        "--out",
        "out",
        "--data",
        "digits:limit=200",
    ]
    code, out, err = bitleak("quantize", *arguments, "--weights", folder)
    assert code == 0, out + err
    assert load_quantized(tmp_path / "out" / "rtn-4").spec == SPEC
    wrong = bitleak("quantize", *arguments, "--weights", folder, "--model", "cnn:width=8")
    refused(wrong, "--model", "cnn:width=4")
    other = store.write(Task("other", "1"), {"scores": np.ones(3)}, {})
    refused(
        bitleak("quantize", *arguments, "--weights", other), "--weights", "other artifacts", "train"
    )
    fewer = store.write(
        Task("train", "2"), encode(Weights(weights.tensors, replace(SPEC, classes=7))), {}
    )
    refused(
        bitleak("quantize", *arguments, "--weights", fewer), "--data", "7 classes", "10 classes"
    )


@pytest.mark.usefixtures("without_new_process")
def test_a_result_whose_spec_names_outside_code_needs_the_command_to_name_it_too(
    bitleak, tmp_path, monkeypatch
):
    (tmp_path / "recording.py").write_text(
        "import pathlib\nfrom torch import nn\npathlib.Path(__file__).with_name('imported').touch()\n"
        "def net(num_classes, in_chans, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    shapes = {"1.weight": (5, 64), "1.bias": (5,), "3.weight": (10, 5), "3.bias": (10,)}
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    named = {"factory": "recording:net", "options": {"width": 5}}
    store = Store(tmp_path / "store")
    folder = store.write(
        Task("train", "1"),
        encode(Weights(tensors, ModelSpec("external", named, 10, 1, 8, MEAN, STD))),
        {},
    )
    arguments = [
        "--data",
        "digits",
        "--quantizer",
        "rtn",
        "--levels",
        "4",
        "--out",
        "out",
        "--weights",
        folder,
    ]
    refused(
        bitleak("quantize", *arguments),
        "--model: missing",
        "if you trust it, add --model recording:net,width=5",
    )
    refused(
        bitleak("quantize", *arguments, "--model", "recording:net"),
        "--model",
        "recording:net,width=5",
    )
    assert not (tmp_path / "imported").exists()
    code, out, err = bitleak("quantize", *arguments, "--model", "recording:net,width=5")
    assert code == 0, out + err
    assert (tmp_path / "imported").exists()
    with pytest.raises(ModelError, match="module 'recording' would be imported"):
        load(load_quantized(tmp_path / "out" / "rtn-4").dequantize())


@pytest.mark.usefixtures("without_new_process")
def test_an_external_network_and_a_local_file_are_read(bitleak, tmp_path, monkeypatch):
    (tmp_path / "zoo_of_test.py").write_text(
        "from torch import nn\n"
        "def net(classes, channels, size):\n"
        "    head = nn.Linear(4 * (size - 2) ** 2, classes)\n"
        "    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), head)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (90, 6, 6, 3)).astype(np.uint8), rng.integers(0, 3, 90)
    np.savez(
        tmp_path / "data.npz",
        pixels=pixels[:60],
        labels=labels[:60],
        test_pixels=pixels[60:],
        test_labels=labels[60:],
    )
    import zoo_of_test

    network = zoo_of_test.net(3, 3, 6).half()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "half.safetensors")
    arguments = [
        "--weights",
        "half.safetensors",
        "--quantizer",
        "adaround",
        "--set",
        "iterations=20",
        "--levels",
        "4",
    ]
    arguments += [
        "--model",
        "zoo_of_test:net",
        "--data",
        "data.npz",
        "--calibration",
        "20",
        "--out",
        "out",
    ]
    code, out, err = bitleak("quantize", *arguments)
    assert code == 0, out + err
    assert "20 calibration images (source: members), 30 test records" in out
    assert "drawn" not in out
    assert list(load_quantized(tmp_path / "out" / "adaround-4").layers) == ["0", "3"]


def test_a_folder_of_images_is_read(quantize, tmp_path, state_dict):
    rng = np.random.default_rng(0)
    for record in range(60):
        path = tmp_path / "images" / "train" / f"class{record % 10}" / f"{record}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(path)
    code, out, err = quantize(data="images", source="all")
    assert code == 0, out + err
    assert "drawn" in out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["test"]["drawn_here"] is True


def test_a_number_of_the_record_that_is_not_finite_is_null(tmp_path):
    layer = QuantizedLayer(
        np.zeros((2, 3), np.uint8), np.ones(2, np.float32), np.zeros(2, np.float32), 2
    )
    record = {"a": {"relative_error": float("nan"), "rows": [1.0, float("inf")], "kept": "nearest"}}
    save_quantized(QuantizedWeights({"a": layer}, {}, record=record), tmp_path / "some" / "net")
    found = load_quantized(tmp_path / "some" / "net.safetensors")
    assert found.record == {"a": {"relative_error": None, "rows": [1.0, None], "kept": "nearest"}}
    assert found.layers["a"].codes.tobytes() == layer.codes.tobytes()
    assert found.rest == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": "4,300"}, ("--levels", "from 2 to 256", "got 300")),
        ({"levels": "four"}, ("--levels", "such as 4,3", "'four'")),
        ({"quantizer": "obx"}, ("--quantizer", "did you mean 'obc'")),
        ({"preset": "fast"}, ("--preset", "quick")),
        ({"last": "1"}, ("--last", "from 2 to 256")),
        ({"source": "train"}, ("--source", "holdout")),
        ({"calibration": "0"}, ("--calibration", "at least 1")),
        ({"calibration": "5000"}, ("--calibration", "'members'", "5000")),
        ({"source": "holdout", "calibration": "1790"}, ("--calibration", "'holdout'")),
        ({"set": "itertions=3"}, ("--set itertions", "unknown key", "granularity")),
        ({"set": "symmetric=maybe"}, ("--set symmetric", "true or false", "maybe")),
        ({"set": "levels=3"}, ("--set levels", "--levels")),
        ({"set": "levels"}, ("--set", "KEY=VALUE")),
        ({"set": 'layers={"head*": 3}'}, ("--set layers", "'head*'", "the layers are")),
        ({"model": "cnnn:width=4"}, ("--model", "did you mean 'cnn'")),
        ({"model": "cnn:widht=4"}, ("--model", "did you mean 'width'")),
        ({"model": "cnn:width"}, ("--model", "KEY=VALUE", "'width'")),
        ({"model": "no_such_zoo:net"}, ("--model", "no_such_zoo")),
        ({"model": None}, ("--model", "missing")),
        ({"model": "cnn:width=8"}, ("--weights", "shape", "net.safetensors")),
        ({"data": "mnist"}, ("--data", "Known: arrays, digits")),
        ({"data": "arrays"}, ("--data path", "missing")),
        ({"data": "arrays:nowhere.npz"}, ("nowhere.npz",)),
        ({"data": "digits:limt=3"}, ("--data limt", "did you mean 'limit'")),
        ({"weights": "nowhere.safetensors"}, ("--weights nowhere.safetensors", "no such file")),
        ({"weights": "."}, ("--weights .", "manifest.json")),
        ({"mean": "0.3"}, ("--mean", "--std")),
        (
            {"mean": "0.3,0.3", "std": "0.4,0.4"},
            ("--mean", "1 number or one per channel (1), got 2"),
        ),
        ({"mean": "0.3", "std": "0"}, ("--std", "(0, inf]")),
        ({"mean": "dark", "std": "0.1"}, ("--mean", "'dark'")),
        ({"device": "tpu"}, ("--device", "'tpu'")),
        ({"seed": "-1"}, ("--seed",)),
    ],
    ids=str,
)
def test_a_mistake_is_refused_before_anything_is_written(quantize, tmp_path, options, words):
    refused(quantize(**options), *words)
    assert not (tmp_path / "out").exists()


def test_several_mistakes_are_told_together(quantize):
    result = quantize(levels="1", quantizer="obx", data="mnist", source="x", seed="-3")
    refused(result, "--levels", "--quantizer", "--data", "--source", "--seed")


@pytest.mark.parametrize(
    "nested",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "optimizer": {"state": {}, "lr": 0.1}, "epoch": 3},
        lambda tensors: {"state_dict": tensors, "best": torch.tensor(0.9)},
        lambda tensors: {"checkpoint": 1, "model": {"state_dict": tensors, "name": "cnn"}},
        lambda tensors: {"model_state_dict": {**tensors, "_extra_state": None}},
    ],
    ids=["state dict", "with optimizer", "state_dict", "nested", "extra state"],
)
def test_a_pickle_is_never_loaded_and_the_advice_converts_it(
    quantize, tmp_path, state_dict, nested, monkeypatch
):
    torch.save(nested(safetensors.torch.load_file(state_dict)), tmp_path / "it's mine.pth")
    result = quantize(weights="it's mine.pth")
    refused(
        result,
        "--weights it's mine.pth",
        "pickle",
        "safetensors.torch",
        "save_file",
        "weights_only=True",
    )
    assert result[2].count("\n") == 1
    command = result[2][result[2].index("python -c") :]
    if nested({}) == {}:  # one in a process of its own, which takes seconds to import torch
        subprocess.run(
            ["sh", "-c", command.replace("python", sys.executable, 1)], check=True, cwd=tmp_path
        )
    else:
        _, _, code, *paths = shlex.split(command)
        monkeypatch.setattr(sys, "argv", ["-c", *paths])
        exec(code, {})
    converted = safetensors.numpy.load_file(tmp_path / "it's mine-converted.safetensors")
    expected = safetensors.numpy.load_file(state_dict)
    assert {name: value.tobytes() for name, value in converted.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }


def test_a_pickle_is_one_whatever_its_name_and_text_is_not(quantize, tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "renamed.safetensors")
    refused(quantize(weights="renamed.safetensors"), "--weights renamed.safetensors", "pickle")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    refused(
        quantize(weights="text.safetensors"),
        "--weights text.safetensors",
        "not a .safetensors file",
    )


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.module.", "model.", "net.backbone."]
)
def test_a_prefix_of_all_names_is_taken_off_and_said(quantize, tmp_path, state_dict, prefix):
    tensors = safetensors.numpy.load_file(state_dict)
    safetensors.numpy.save_file(
        {f"{prefix}{name}": value for name, value in tensors.items()}, tmp_path / "net"
    )
    code, out, err = quantize(weights="net", out="prefixed")
    assert code == 0, out + err
    assert f"note: weights: the prefix '{prefix}' was removed from the names of all tensors" in out
    assert quantize(out="plain")[0] == 0
    written = [
        (tmp_path / folder / "weights-rtn-4.safetensors").read_bytes()
        for folder in ("prefixed", "plain")
    ]
    assert written[0] == written[1]


def test_a_prefix_that_makes_nothing_fit_is_named(quantize, tmp_path):
    safetensors.numpy.save_file(
        {"module.conv": np.zeros(3, np.float32)}, tmp_path / "net.safetensors"
    )
    refused(quantize(weights="net.safetensors"), "'conv.weight'", "missing", "begin with 'module.'")


def test_weights_that_are_not_finite_are_refused(quantize, state_dict, tmp_path):
    tensors = safetensors.numpy.load_file(state_dict)
    name = next(name for name in tensors if name.endswith("weight"))
    tensors[name] = tensors[name] * np.float32("nan")
    safetensors.numpy.save_file(tensors, tmp_path / "nan.safetensors")
    refused(quantize(weights="nan.safetensors"), "--weights nan.safetensors", name, "NaN")


def test_an_output_folder_that_is_a_file_is_refused(quantize, tmp_path):
    (tmp_path / "taken").write_text("x")
    refused(quantize(out="taken"), "--out taken", "folder")


def test_files_that_do_not_belong_together_are_refused(quantize, tmp_path):
    assert quantize(levels="4,3")[0] == 0
    folder = tmp_path / "out"
    (folder / "rtn-4.safetensors").write_bytes((folder / "rtn-3.safetensors").read_bytes())
    with pytest.raises(StoreError, match=r"not the file that rtn-4\.json was written with"):
        load_quantized(folder / "rtn-4")
    content = json.loads((folder / "rtn-3.json").read_text())
    (folder / "rtn-3.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(StoreError, match="format 99"):
        load_quantized(folder / "rtn-3.json")
    (folder / "rtn-3.json").unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        load_quantized(folder / "rtn-3.safetensors")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from bitleak.cli import main; code = main(['quantize', '--help']); "
        "sys.exit(code or ', '.join({'torch', 'numpy', 'matplotlib', 'yaml'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--quantizer" in done.stdout


def bright_or_dark(tmp_path, dark, bright):
    """An .npz of 80 images whose brightness is their label, and the digits network's shape."""
    labels = np.repeat([dark, bright], 40)
    pixels = np.where(labels == bright, 200, 20)[:, None, None] + np.random.default_rng(0).integers(
        0, 40, (80, 8, 8)
    )
    np.savez(tmp_path / "data.npz", pixels=pixels.astype(np.uint8), labels=labels)


@pytest.fixture
def linear(tmp_path, monkeypatch):
    """Save a linear network with so many outputs, of which two answer: one to dark images, one to bright ones."""
    (tmp_path / "linear_of_test.py").write_text(
        "from torch import nn\n"
        "def net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
        "def fixed():\n    return net(256)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def save(outputs, dark, bright):
        weight, bias = torch.zeros(outputs, 64), torch.full((outputs,), -9.0)
        weight[dark], weight[bright], bias[dark], bias[bright] = -1.0, 1.0, 0.0, 0.0
        safetensors.torch.save_file(
            {"1.weight": weight, "1.bias": bias}, tmp_path / "w.safetensors"
        )

    return save


LINEAR = ("--weights", "w.safetensors", "--quantizer", "rtn", "--levels", "4", "--out", "out")


@pytest.mark.usefixtures("without_new_process")
@pytest.mark.parametrize("factory", ["net", "fixed"])
def test_a_network_numbered_by_stored_labels_is_refused_with_the_way_out(
    bitleak, tmp_path, linear, factory
):
    bright_or_dark(tmp_path, 0, 255)
    linear(256, 0, 255)
    model = ("--model", f"linear_of_test:{factory}")
    result = bitleak("quantize", *LINEAR, *model, "--data", "data.npz")
    refused(
        result,
        "(0, 255) were sorted and numbered from 0 to 1",
        "give the data set's option `classes`",
    )
    assert not (tmp_path / "out").exists()
    code, out, err = bitleak("quantize", *LINEAR, *model, "--data", "arrays:data.npz,classes=256")
    assert code == 0, err
    assert "100.00" in out
    assert "before quantizing" not in out


@pytest.mark.usefixtures("without_new_process")
def test_outputs_in_another_order_are_said_before_quantizing(bitleak, tmp_path, linear):
    bright_or_dark(tmp_path, 1, 2)
    for dark, bright, said in ((0, 1, False), (1, 0, True)):
        linear(2, dark, bright)
        _, out, _ = bitleak(
            "quantize", *LINEAR, "--model", "linear_of_test:net", "--data", "data.npz"
        )
        assert "labels are numbers from 1 to 2; sorted, they are classes 0 to 1" in out
        doubt = "before quantizing, the network is right on 0.0 % of 24 test records, not clearly above the share"
        assert (doubt in out) is said
        assert not said or out.index(doubt) < out.index("layer 1 of 1")
