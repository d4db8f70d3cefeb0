"""LiteRT files: the logits of every form of a network, and refusals of files read wrongly."""

from dataclasses import replace

import numpy as np
import pytest

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.engine.codecs import decode, encode
from bitleak.runtimes.packed_codes import pack_codes
from bitleak.runtimes.runtime import open_network, runtime_for, runtime_of
from bitleak.runtimes.session_comparison import check_sessions

pytest.importorskip("ai_edge_litert.interpreter", reason="needs bitleak[litert]")

from tflite_files import Graph

SPEC = ModelSpec("cnn", {}, 5, 3, 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
CHANCE = np.random.default_rng(0)
WEIGHT = CHANCE.standard_normal((5, 48)).astype(np.float32)
BIAS = CHANCE.standard_normal(5).astype(np.float32)
PIXELS = CHANCE.integers(0, 256, (70, 3, 4, 4))
MEAN, STD = (np.array(values).reshape(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
IMAGES = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)
EXPECTED = IMAGES.reshape(70, -1).astype(np.float64) @ WEIGHT.T + BIAS
BY_PIXEL = WEIGHT.reshape(5, 3, 4, 4).transpose(0, 2, 3, 1).reshape(5, -1)


def linear(
    shape=(-1, 4, 4, 3), weight=BY_PIXEL, *, outputs=("logits",), model=False, **weight_fields
):
    """A linear network, by default on images with the channels last."""
    graph, batch = Graph(), shape[0]
    images = graph.tensor("images", shape)
    flat = graph.tensor("flat", (batch, 48))
    logits = graph.tensor("logits", (batch, 5))
    sizes = graph.tensor("sizes", (2,), "INT32", values=np.array([-1, 48], np.int32))
    graph.node("RESHAPE", (images, sizes), (flat,), options="ReshapeOptions", newShape=[-1, 48])
    head = weight
    if isinstance(weight, np.ndarray):
        head = graph.tensor("weight", (5, 48), values=weight)
    elif weight is None:
        head = graph.tensor("weight", (5, 48), **weight_fields)
    bias = graph.tensor("bias", (5,), values=BIAS)
    if weight is None:
        floats = graph.tensor("floats", (5, 48))
        graph.node("DEQUANTIZE", (head,), (floats,), version=weight_fields.get("version", 6))
        head = floats
    graph.node("FULLY_CONNECTED", (flat, head, bias), (logits,), options="FullyConnectedOptions")
    places = {"logits": logits, "flat": flat}
    if "p" in outputs:
        places["p"] = graph.tensor("p", (batch, 5))
        graph.node("SOFTMAX", (logits,), (places["p"],), options="SoftmaxOptions", beta=1.0)
    build = graph.model if model else graph.content
    return build([images], [places[name] for name in outputs])


ENTRY, HEAD = (0.02, 3), 0.01
CODES = np.clip(np.rint(BY_PIXEL / 0.03), -127, 127).astype(np.int8)
SCALES = (0.03 * CHANCE.uniform(0.5, 1, 5)).astype(np.float32)


def integers(entry=ENTRY, output=(0.5, -7), stated=True):
    """A linear network of int8 images, weights and logits."""
    graph = Graph()
    images = graph.tensor("images", (-1, 4, 4, 3), "INT8", grid=entry)
    flat = graph.tensor("flat", (-1, 48), "INT8", grid=entry)
    sizes = graph.tensor("sizes", (2,), "INT32", values=np.array([-1, 48], np.int32))
    graph.node("RESHAPE", (images, sizes), (flat,), options="ReshapeOptions", newShape=[-1, 48])
    weight = graph.tensor("weight", (5, 48), "INT8", values=CODES, grid=(SCALES, [0] * 5))
    bias = graph.tensor(
        "bias",
        (5,),
        "INT32",
        values=np.rint(BIAS / (entry[0] * SCALES)).astype(np.int32),
        grid=(entry[0] * SCALES, [0] * 5),
    )
    logits = graph.tensor("logits", (-1, 5), "INT8", grid=output)
    graph.node(
        "FULLY_CONNECTED",
        (flat, weight, bias),
        (logits,),
        options="FullyConnectedOptions",
        version=4,
    )
    model = graph.model([images], [logits])
    if not stated:
        for index in (images, logits):
            model.subgraphs[0].tensors[index].quantization = None
    return model


@pytest.fixture
def opened(tmp_path):
    """Saves a file's bytes and opens it."""

    def run(content, spec=SPEC, **options):
        path = tmp_path / "net.tflite"
        path.write_bytes(content)
        _, runtime = runtime_for(path, options)
        return open_network(runtime.read(path, spec))

    return run


@pytest.fixture
def refusal(opened):
    """The message by which a file is refused."""

    def run(content, **options):
        with pytest.raises(ModelError) as error:
            opened(content, **options)(IMAGES)
        return str(error.value)

    return run


@pytest.fixture
def read(tmp_path):
    """Saves a file's bytes and reads it."""

    def run(content, **options):
        path = tmp_path / "net.tflite"
        path.write_bytes(content)
        return runtime_of("litert", options).read(path, SPEC)

    return run


def check(network, expected=EXPECTED, tolerance=1e-5):
    assert np.abs(network(IMAGES) - expected).max() <= tolerance


def test_a_file_answers_with_its_logits_with_and_without_xnnpack(opened):
    for level, provider in (("all", "XNNPACK"), ("none", "builtin kernels")):
        network = opened(linear(), optimisation=level)
        check(network)
        assert network.facts["runtime"].startswith("ai-edge-litert 2")
        assert (network.facts["provider"], network.facts["threads"]) == (provider, 1)


def test_an_image_is_answered_alike_alone_and_in_company(opened):
    for content in (linear(), linear((7, 4, 4, 3)), linear((1, 4, 4, 3))):
        network = opened(content)
        together = network(IMAGES)
        assert together.shape == (70, 5)
        for record in (0, 6, 69):
            assert (network(IMAGES[record : record + 1])[0] == together[record]).all()


def test_images_with_the_channels_first_are_given_with_the_channels_first(opened):
    check(opened(linear((-1, 3, 4, 4), WEIGHT)))


def test_int8_images_and_logits_are_read_by_the_scales_of_the_file(opened, read):
    from bitleak.runtimes.litert_files import packed_tflite

    network = opened(packed_tflite(integers()))
    answers = network(IMAGES)
    rounded = np.clip(np.rint(IMAGES / np.float32(0.02)) + 3, -128, 127) - 3
    by_pixel = rounded.transpose(0, 2, 3, 1).reshape(70, -1)
    products = 0.02 * by_pixel @ (SCALES[:, None] * CODES).T + BIAS
    exact = 0.5 * (np.clip(np.rint(products / 0.5) - 7, -128, 127) + 7)
    assert np.abs(answers - exact).max() <= 0.5
    assert (answers == exact).mean() > 0.97
    record = read(packed_tflite(integers())).record
    assert record["quantized_activations"] is True
    assert record["levels_counted"] == {"logits": max(len(np.unique(row)) for row in CODES)}


def test_int8_images_of_unknown_scale_are_refused_and_not_read_as_floats(read, refusal):
    from bitleak.runtimes.litert_files import packed_tflite

    content = packed_tflite(integers(stated=False))
    message = refusal(content)
    assert "input 'images' is int8, and the file states no scale for it" in message
    assert "input_scale and input_zero_point" in message
    message = refusal(content, input_scale=0.02, input_zero_point=3)
    assert "output 'logits' is int8, and the file states no scale for it" in message


def test_probabilities_are_told_from_logits_and_their_logarithm_is_taken(opened, refusal):
    logits = IMAGES.reshape(70, -1).astype(np.float64) @ (WEIGHT.T / 8) + BIAS
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    content = linear(weight=BY_PIXEL / 8, outputs=("p",))
    network = opened(content)
    assert network.facts["answers"] == "probabilities"
    check(network, expected)
    # The tensor before the Softmax, by its name.
    check(opened(content, output="logits"), logits)
    assert "rounded to 0" in refusal(linear(weight=BY_PIXEL * 40, outputs=("p",)))


def test_one_of_several_outputs_is_chosen_by_its_name(opened, refusal):
    content = linear(outputs=("flat", "logits"))
    assert "has 2 outputs ('flat' [any, 48], 'logits' [any, 5]); name one" in refusal(content)
    assert "unknown output 'logit': did you mean 'logits'?" in refusal(content, output="logit")
    message = refusal(content, output="flat")
    assert "has the shape [any, 48], but the data has 5 classes" in message
    check(opened(content, output="logits"))


def test_a_network_for_another_data_set_is_refused(opened):
    for change, words in (
        ({"classes": 10}, "output 'logits' has the shape [any, 5], but the data has 10 classes"),
        ({"size": 8}, "images are [records] and [3, 8, 8] or [8, 8, 3], got [any, 4, 4, 3]"),
    ):
        with pytest.raises(ModelError) as error:
            opened(linear(), replace(SPEC, **change))
        assert words in str(error.value)


def test_answers_that_are_not_finite_are_refused(refusal):
    broken = BY_PIXEL.copy()
    broken[2, 1] = np.nan
    assert "output 'logits' is not finite for" in refusal(linear(weight=broken))


def test_a_custom_operator_is_refused(refusal):
    graph = Graph()
    images, logits = graph.tensor("images", (-1, 4, 4, 3)), graph.tensor("logits", (-1, 5))
    graph.node("CUSTOM", (images,), (logits,), custom="ZooWarp")
    message = refusal(graph.content([images], [logits]))
    assert "operator 'ZooWarp' is none of LiteRT: it needs a library of its own" in message


def test_tensors_in_another_file_are_refused(refusal):
    from bitleak.runtimes.litert_files import packed_tflite, schema

    model = linear(model=True)
    group = schema().ExternalBufferGroupT()
    group.name = "/etc/passwd"
    model.externalBufferGroups = [group]
    message = refusal(packed_tflite(model))
    assert "tensors are stored in another file, '/etc/passwd', which is refused" in message


def test_a_convolution_that_litert_answers_wrongly_is_refused(refusal):
    graph = Graph()
    images, sums = graph.tensor("images", (-1, 4, 4, 3)), graph.tensor("sums", (-1, 1, 1, 5))
    grid = ([0.1] * 5, [0] * 5)
    weight = graph.tensor("weight", (5, 4, 4, 3), "INT2", data=b"\x1b" * 60, grid=grid)
    bias = graph.tensor("bias", (5,), values=BIAS)
    graph.node("CONV_2D", (images, weight, bias), (sums,), version=8, options="Conv2DOptions")
    message = refusal(graph.content([images], [sums]))
    assert (
        "CONV_2D 'sums' has 2-bit weights and float images, which LiteRT answers wrongly" in message
    )


def test_a_newer_version_of_an_operator_is_refused(refusal):
    graph = Graph()
    images, logits = graph.tensor("images", (-1, 5)), graph.tensor("logits", (-1, 5))
    graph.node("SOFTMAX", (images,), (logits,), options="SoftmaxOptions", beta=1.0, version=999)
    content, table = graph.content([images], [logits]), replace(SPEC, channels=5, size=0)
    path_images = np.zeros((2, 5), np.float32)
    from bitleak.core.types import NetworkFile

    file = NetworkFile(np.frombuffer(content, np.uint8), "litert", {}, 1, "0", table)
    with pytest.raises(
        ModelError, match=r"LiteRT 2.* cannot load the file with XNNPACK: .*SOFTMAX"
    ):
        open_network(file)(path_images)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04garbage", b"\0\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3" + b"\0" * 40]
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "net.tflite").write_bytes(content)
    with pytest.raises(ModelError, match="not a LiteRT file"):
        runtime_of("litert", {}).read(tmp_path / "net.tflite", SPEC)


def test_a_file_comes_back_from_the_store(read):
    file = read(linear())
    back = decode("network_file", encode(file))
    assert (back.digest, back.size) == (file.digest, len(linear()))
    check(open_network(back))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float32"}, "runtime litert: unknown option 'precision'"),
        ({"optimisation": "basic"}, "optimisation"),
        ({"pixels": "raw"}, "pixels"),
        ({"batch": 0}, "batch must be an integer from 1 to 4096, got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        runtime_of("litert", options)


@pytest.mark.parametrize(("kind", "bits"), [("INT4", 4), ("INT8", 8)])
def test_codes_before_a_dequantize_are_answered_and_counted_per_channel(read, kind, bits):
    # Channels of one to four codes each, so that codes of two channels must not be mixed.
    codes = np.stack([CHANCE.integers(-2, count - 2, 48) for count in (1, 2, 3, 4, 3)])
    packed = pack_codes((codes.ravel() % 2**bits).astype(np.uint8), bits)
    grid = ([0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5)
    file = read(linear(weight=None, kind=kind, data=packed, grid=grid))
    weight = np.array(grid[0])[:, None] * codes
    check(open_network(file), IMAGES.transpose(0, 2, 3, 1).reshape(70, -1) @ weight.T + BIAS, 1e-4)
    counts = max(len(np.unique(row)) for row in codes)
    assert file.record["levels_counted"] == {"logits": counts}
    assert file.record["quantized_activations"] is False
    assert file.record["bits_per_weight"] == pytest.approx(8 * (240 * bits // 8 + 60) / 240)


def test_a_file_that_is_computed_as_it_says_passes_the_comparison(read):
    from bitleak.runtimes.litert_files import packed_tflite

    differences = check_sessions(read(linear()), IMAGES)
    assert {"alone and in company", "used and unoptimised"} < set(differences)
    assert max(differences.values()) < 1e-5
    assert check_sessions(read(packed_tflite(integers())), IMAGES)["used and unoptimised"] <= 0.5


def test_a_file_that_its_runtime_computes_otherwise_is_refused_with_the_operator(read, monkeypatch):
    from bitleak.runtimes import litert

    make = litert.make_interpreter
    other = linear(weight=BY_PIXEL * np.float32(1.01))

    def make_otherwise(content, level, shape):
        return make(other if level == "all" else content, level, shape)

    monkeypatch.setattr(litert, "make_interpreter", make_otherwise)
    with pytest.raises(ModelError) as error:
        check_sessions(read(linear()), IMAGES)
    assert "the first operator that differs is FULLY_CONNECTED 'logits'" in str(error.value)
