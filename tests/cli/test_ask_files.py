"""`bitleak ask` of a file: its runtime's answers, without a network's code."""

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx_networks import REASON

from bitleak.data.digits import Digits

onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

MEAN, STD = 0.3, 0.4


def linear_file(path, classes=10, shape=("n", 1, 8, 8)):
    """A linear network of the digits, with its standardisation in the file; returns its weight."""
    weight = np.random.default_rng(0).standard_normal((classes, 64)).astype(np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
    ]
    entry = helper.make_tensor_value_info("images", kind, list(shape))
    output = helper.make_tensor_value_info("logits", kind, ["n", classes])
    constants = [onnx.numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "linear", [entry], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(
        model, {"bitleak.mean": json.dumps([MEAN]), "bitleak.std": json.dumps([STD])}
    )
    onnx.save(model, path)
    return weight


def test_a_file_is_asked_as_it_standardises(bitleak, tmp_path):
    weight = linear_file(tmp_path / "net.onnx")
    code, out, err = bitleak(
        "ask", "--weights", "net.onnx", "--data", "digits", "--records", "0:90", "--out", "asked"
    )
    assert code == 0, err
    assert "1 network of onnx, 90 records" in out
    (facts,) = json.loads((tmp_path / "asked" / "answers.json").read_text())["models"]
    assert facts["runtime"]["runtime"].startswith("onnxruntime ")
    assert (facts["runtime"]["provider"], facts["runtime"]["threads"]) == (
        "CPUExecutionProvider",
        1,
    )
    pixels = Digits().load(None).pixels[:90].reshape(90, -1)
    expected = ((pixels / 255 - MEAN) / STD) @ weight.T.astype(np.float64)
    assert np.abs(np.load(tmp_path / "asked" / "logits.npy")[0, :, 0] - expected).max() < 1e-4


def test_a_file_for_other_data_is_refused(bitleak, tmp_path):
    linear_file(tmp_path / "net.onnx", classes=7)
    code, _, err = bitleak("ask", "--weights", "net.onnx", "--data", "digits", "--out", "asked")
    assert code == 2
    assert (
        "--weights net.onnx: net.onnx: output 'logits' has the shape [n, 7], but the data has 10 classes"
        in err
    )


def test_options_of_the_runtime_settle_what_a_file_does_not_say(bitleak, tmp_path):
    linear_file(tmp_path / "known.onnx")
    linear_file(tmp_path / "open.onnx", shape=("n", "a", "b", "c"))
    ask = ("ask", "--data", "digits", "--records", "0:40", "--weights")
    code, _, err = bitleak(*ask, "open.onnx", "--out", "a")
    assert (code, "set the runtime's option layout to NCHW or NHWC" in err) == (2, True)
    code, _, err = bitleak(*ask, "open.onnx", "--out", "a", "--runtime", "layuot=NCHW")
    assert (code, "--runtime: runtime onnx: unknown option 'layuot': did you" in err) == (2, True)
    code, _, err = bitleak(*ask, "open.onnx", "--out", "a", "--runtime", "layout")
    assert (code, "--runtime expects KEY=VALUE, got 'layout'" in err) == (2, True)
    for name, options in (("known", ()), ("open", ("--runtime", "layout=NCHW"))):
        code, _, err = bitleak(*ask, f"{name}.onnx", "--out", name, *options)
        assert code == 0, err
    known, chosen = (np.load(tmp_path / name / "logits.npy") for name in ("known", "open"))
    assert (known == chosen).all()
    # Other options are another request, whose answers are not mixed with these.
    code, _, err = bitleak(*ask, "known.onnx", "--out", "known", "--runtime", "pixels=unit")
    assert code == 2, err


def test_options_of_a_runtime_need_a_file_that_has_one(bitleak, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"0")
    ask = ("ask", "--data", "digits", "--weights", "net.safetensors", "--model", "cnn")
    code, _, err = bitleak(*ask, "--out", "a", "--runtime", "layout=NCHW")
    assert code == 2
    assert "--runtime: is for files of a runtime (.onnx, .xml, .tflite), of which there is" in err


def test_files_are_asked_without_torch_and_without_matplotlib(tmp_path):
    weight = linear_file(tmp_path / "net.onnx")
    code = (
        "import sys\n"
        "from bitleak.cli import entry\n"
        "sys.argv = ['bitleak', 'ask', '--weights', 'net.onnx', '--data', 'digits', '--records', '0:90',\n"
        "            '--queries', 'identity,shift:1,-1', '--out', 'asked']\n"
        "try:\n    entry()\nfinally:\n"
        "    print([name for name in ('torch', 'matplotlib') if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "[]"), run.stderr
    pixels = Digits().load(None).pixels[:90]
    moved = np.zeros_like(pixels)
    moved[..., :-1, 1:] = pixels[..., 1:, :-1]
    logits = np.load(tmp_path / "asked" / "logits.npy")[0]
    for query, shown in enumerate((pixels, moved)):
        expected = ((shown.reshape(90, -1) / 255 - MEAN) / STD) @ weight.T.astype(np.float64)
        assert np.abs(logits[:, query] - expected).max() < 1e-4


def test_constants_next_to_a_graph_are_no_network(bitleak, tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "net.xml").write_text("<net/>")
    (folder / "net.bin").write_bytes(b"0")
    ask = ("ask", "--data", "digits", "--out", "asked", "--weights")
    code, _, err = bitleak(*ask, "nets/net.bin")
    assert (code, "--weights nets/net.bin: holds the constants of net.xml" in err) == (2, True)
    code, _, err = bitleak(*ask, "nets")
    assert (code, "net.xml: not an OpenVINO file, or one without a graph" in err) == (2, True), err


def test_asking_a_file_imports_neither_statistics_nor_the_report():
    code = (
        "import sys\n"
        "import bitleak.cli.ask_command\n"
        "from bitleak.cli.terminal import StageBars\n"
        "from bitleak.core.plurals import count\n"
        "from bitleak.single_network.answer_collection import collect_answers\n"
        "from bitleak.single_network.input_doubts import check_inputs\n"
        "from bitleak.single_network.membership_doubts import folder_doubts\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'bitleak.report', 'bitleak.attacks'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "net.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "run git lfs pull",
        ),
        ("net.h5", b"\x89HDF", "files of this kind are not read; expected one of .safetensors, "),
    ],
)
def test_files_of_another_kind_are_named(bitleak, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    code, _, err = bitleak("ask", "--weights", name, "--data", "digits", "--out", "asked")
    assert code == 2
    assert message in " ".join(err.split())
