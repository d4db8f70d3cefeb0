"""OpenVINO files: the logits of every form of a network in checked float32, and refusals of files read wrongly."""

from dataclasses import replace

import numpy as np
import pytest

from bitleak.core.errors import ModelError
from bitleak.core.types import ModelSpec
from bitleak.engine.codecs import decode, encode
from bitleak.runtimes.runtime import open_network, runtime_for, runtime_of
from bitleak.runtimes.session_comparison import check_sessions

ov = pytest.importorskip("openvino", reason="needs bitleak[openvino]")
op = pytest.importorskip("openvino.opset13", reason="needs bitleak[openvino]")

SPEC = ModelSpec("cnn", {}, 5, 3, 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
CHANCE = np.random.default_rng(0)
WEIGHT = CHANCE.standard_normal((5, 48)).astype(np.float32)
BIAS = CHANCE.standard_normal((1, 5)).astype(np.float32)
PIXELS = CHANCE.integers(0, 256, (70, 3, 4, 4))
MEAN, STD = (np.array(values).reshape(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
IMAGES = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)
EXPECTED = IMAGES.reshape(70, -1).astype(np.float64) @ WEIGHT.T + BIAS
BY_PIXEL = WEIGHT.reshape(5, 3, 4, 4).transpose(0, 2, 3, 1).reshape(5, -1)


def weighted(codes, kind, scale, zero_point):
    """A weight of codes with a scale and a zero point per channel."""
    floats = op.convert(op.constant(codes, dtype=kind), ov.Type.f32)
    return op.multiply(op.subtract(floats, op.constant(zero_point)), op.constant(scale))


def linear(
    weight=WEIGHT, *, shape=(-1, 3, 4, 4), kind=None, layout=None, before=None, after=(), bias=BIAS
):
    """A graph of a linear network; `before` changes the images, `after` makes further outputs."""
    images = op.parameter(ov.PartialShape(list(shape)), kind or ov.Type.f32, name="images")
    images.output(0).set_names({"images"})
    if layout:
        images.set_layout(ov.Layout(layout))
    flat = op.reshape(before(images) if before else images, op.constant(np.array([0, 48])), True)
    flat.output(0).set_names({"flat"})
    node = op.constant(weight) if isinstance(weight, np.ndarray) else weight
    product = op.matmul(flat, node, False, True)
    product.set_friendly_name("head")
    logits = op.add(product, op.constant(bias))
    logits.output(0).set_names({"logits"})
    outputs = [make(logits, flat) for make in after] or [logits]
    return ov.Model([op.result(output) for output in outputs], [images], "network")


def named(name, node):
    node.output(0).set_names({name})
    return node


@pytest.fixture
def saved(tmp_path):
    """Saves a graph, and returns its path."""

    def run(model, *, half=False):
        path = tmp_path / "net.xml"
        ov.save_model(model, path, compress_to_fp16=half)
        return path

    return run


@pytest.fixture
def opened(saved):
    """Saves a graph and opens it."""

    def run(model, spec=SPEC, **options):
        path = saved(model)
        _, runtime = runtime_for(path, options)
        return open_network(runtime.read(path, spec))

    return run


@pytest.fixture
def refusal(opened):
    """The message by which a graph is refused."""

    def run(model, **options):
        with pytest.raises(ModelError) as error:
            opened(model, **options)(IMAGES)
        return str(error.value)

    return run


def check(network, expected=EXPECTED, tolerance=1e-5):
    assert np.abs(network(IMAGES) - expected).max() <= tolerance


def test_a_file_answers_with_its_logits_in_float32_and_one_thread(opened):
    network = opened(linear())
    check(network)
    assert network.facts["runtime"].startswith("openvino 20")
    assert (network.facts["arithmetic"], network.facts["threads"]) == ("float32", 1)
    assert (network.facts["optimisation"], network.facts["batch"]) == ("all", 64)


def test_float32_is_checked_by_a_product_that_no_narrower_type_holds(opened, monkeypatch):
    from bitleak.runtimes import openvino

    settings = dict(openvino.FLOAT32, INFERENCE_PRECISION_HINT="bf16")
    if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        settings["EXECUTION_MODE_HINT"] = "PERFORMANCE"
        monkeypatch.setattr(openvino, "FLOAT32", settings)
        with pytest.raises(ModelError, match=r"asked for float32 and computes in bf16, with an er"):
            opened(linear())
    assert openvino.probe_error(tuple({**openvino.ONE_THREAD, **openvino.FLOAT32}.items())) >= 0


def test_the_choice_of_the_runtime_can_be_audited_and_is_recorded(opened):
    network = opened(linear(), precision="runtime")
    assert network.facts["arithmetic"] in ("bf16", "f16", "f32", "dynamic")
    assert network.facts["runtime"].endswith(f" in {network.facts['arithmetic']}")
    check(network, tolerance=0.2)


def test_an_image_is_answered_alike_alone_and_in_company(opened):
    for model in (linear(), linear(shape=(7, 3, 4, 4))):
        network = opened(model)
        together = network(IMAGES)
        assert together.shape == (70, 5)
        for record in (0, 6, 69):
            assert (network(IMAGES[record : record + 1])[0] == together[record]).all()


def test_images_with_the_channels_last_are_given_with_the_channels_last(opened):
    check(opened(linear(BY_PIXEL, shape=(-1, 4, 4, 3))))


def test_a_shape_that_does_not_say_where_the_channels_are_needs_a_layout(opened, refusal):
    unknown = {"shape": (-1, -1, -1, -1)}
    assert "does not say where the channels are; set the runtime's option layout" in refusal(
        linear(**unknown)
    )
    check(opened(linear(**unknown), layout="NCHW"))
    check(opened(linear(BY_PIXEL, layout="NHWC", **unknown)))


def test_an_int8_input_is_quantized_by_the_scale_that_the_graph_reads_it_with(opened, refusal):
    def dequantized(images):
        floats = op.convert(images, ov.Type.f32)
        centred = op.subtract(floats, op.constant(np.float32(3)))
        return op.multiply(centred, op.constant(np.float32(0.05)))

    rounded = np.clip(np.rint(IMAGES / np.float32(0.05)) + 3, -128, 127)
    expected = 0.05 * (rounded - 3).reshape(70, -1) @ WEIGHT.T + BIAS
    check(opened(linear(kind=ov.Type.i8, before=dequantized)), expected, 1e-4)
    cast = linear(kind=ov.Type.i8, before=lambda images: op.convert(images, ov.Type.f32))
    assert "input 'images' is int8, and no Subtract and Multiply take it" in refusal(cast)
    answers = opened(cast, input_scale=0.05, input_zero_point=3)(IMAGES)
    assert np.abs(answers - (rounded.reshape(70, -1) @ WEIGHT.T + BIAS)).max() < 2e-3


def test_pixels_as_bytes_are_the_bytes_of_the_images(opened):
    cast = linear(kind=ov.Type.u8, before=lambda images: op.convert(images, ov.Type.f32))
    expected = PIXELS.reshape(70, -1) @ WEIGHT.T.astype(np.float64) + BIAS
    assert np.abs(opened(cast, pixels="bytes")(IMAGES) / expected - 1).max() < 1e-4


def eight_bits(logits, flat):
    """Rounds logits to int8 with scale 0.5 and zero point -7."""
    ends = [(-128 + 7) * 0.5, (127 + 7) * 0.5, -128, 127]
    limits = [op.constant(np.float32(end)) for end in ends]
    return named("answer", op.convert(op.fake_quantize(logits, *limits, levels=256), ov.Type.i8))


def test_an_int8_output_is_multiplied_by_its_scale(opened, refusal):
    answers = opened(linear(after=[eight_bits]))(IMAGES)
    assert np.abs(answers - EXPECTED).max() <= 0.2501
    assert (answers % 0.5 == 0).all()
    cast = linear(after=[lambda logits, flat: named("answer", op.convert(logits, ov.Type.i8))])
    assert "output 'answer' is int8, and no FakeQuantize makes it" in refusal(cast)


def test_probabilities_are_told_from_logits_and_their_logarithm_is_taken(opened, refusal):
    def model(scale=0.125):
        softmax = [lambda logits, flat: named("p", op.softmax(logits, 1))]
        return linear(WEIGHT * np.float32(scale), after=softmax)

    logits = IMAGES.reshape(70, -1).astype(np.float64) @ (WEIGHT.T / 8) + BIAS
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    network = opened(model())
    assert network.facts["answers"] == "probabilities"
    check(network, expected)
    # The tensor before the Softmax, by its name.
    check(opened(model(), output="logits"), logits)
    assert "rounded to 0" in refusal(model(40))
    assert "should hold probabilities, got values from -" in refusal(
        linear(), answers="probabilities"
    )


def test_one_of_several_outputs_is_chosen_by_its_name(opened, refusal):
    def model():
        features = [lambda logits, flat: named("features", op.relu(flat))]
        return linear(after=[*features, lambda logits, flat: logits])

    assert "has 2 outputs ('features' [any, 48], 'logits' [any, 5]); name one" in refusal(model())
    assert "unknown output 'logit': did you mean 'logits'?" in refusal(model(), output="logit")
    message = refusal(model(), output="features")
    assert "has the shape [any, 48], but the data has 5 classes" in message
    check(opened(model(), output="logits"))


def test_a_network_for_another_data_set_is_refused(opened):
    for change, words in (
        ({"classes": 10}, "output 'logits' has the shape [any, 5], but the data has 10 classes"),
        ({"size": 8}, "images are [records] and [3, 8, 8] or [8, 8, 3], got [any, 3, 4, 4]"),
    ):
        with pytest.raises(ModelError) as error:
            opened(linear(), replace(SPEC, **change))
        assert words in str(error.value)


def test_answers_that_are_not_finite_are_refused(refusal):
    broken = WEIGHT.copy()
    broken[2, 1] = np.nan
    assert "output 'logits' is not finite for" in refusal(linear(broken))


def test_an_operator_of_another_library_is_refused(saved):
    path = saved(linear())
    path.write_text(
        path.read_text().replace('type="Add" version="opset1"', 'type="Warp" version="zoo"')
    )
    with pytest.raises(ModelError, match=r"operator zoo\.Warp .* is none of OpenVINO's opsets"):
        runtime_of("openvino", {}).read(path, SPEC)


def test_an_operator_of_a_newer_opset_is_refused(saved):
    path = saved(linear())
    path.write_text(
        path.read_text().replace('type="Add" version="opset1"', 'type="Add" version="opset99"')
    )
    with pytest.raises(ModelError, match=r"OpenVINO 20.* cannot read the file: .*opset99"):
        runtime_of("openvino", {}).read(path, SPEC)


def test_the_constants_are_part_of_the_digest_and_must_be_of_the_same_export(saved):
    path = saved(linear())
    constants = path.with_suffix(".bin")
    content, runtime = constants.read_bytes(), runtime_of("openvino", {})
    first = runtime.read(path, SPEC)
    assert first.size == path.stat().st_size + len(content)
    back = decode("network_file", encode(first))
    check(open_network(back))
    constants.write_bytes(content[:-4] + b"\0\0\0\0")
    assert runtime.read(path, SPEC).digest != first.digest
    constants.write_bytes(content[:100])
    with pytest.raises(ModelError, match=r"net.bin has 100 bytes; the two files are not of the sa"):
        runtime.read(path, SPEC)
    constants.unlink()
    with pytest.raises(ModelError, match=r"net.bin with its constants cannot be read .*; keep bot"):
        runtime.read(path, SPEC)


def test_constants_in_another_folder_are_refused(saved, tmp_path):
    path = saved(linear())
    (tmp_path / "other").mkdir()
    path.with_suffix(".bin").rename(tmp_path / "other" / "net.bin")
    path.with_suffix(".bin").symlink_to(tmp_path / "other" / "net.bin")
    with pytest.raises(ModelError, match=r"is a link to another folder, which is refused"):
        runtime_of("openvino", {}).read(path, SPEC)


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04garbage", b"<html></html>", b'<!DOCTYPE a [<!ENTITY b "c">]><net/>']
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "net.xml").write_bytes(content)
    with pytest.raises(ModelError, match="not an OpenVINO file"):
        runtime_of("openvino", {}).read(tmp_path / "net.xml", SPEC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accuracy_level": 0}, "runtime openvino: unknown option 'accuracy_level'"),
        ({"precision": "bfloat16"}, "precision"),
        ({"optimisation": "basic"}, "optimisation"),
        ({"layout": "NCWH"}, "layout"),
        ({"batch": 0}, "batch must be an integer from 1 to 4096, got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        runtime_of("openvino", options)


@pytest.mark.parametrize(
    ("kind", "bits"), [("u2", 2), ("u3", 3), ("u4", 4), ("i4", 4), ("u8", 8), ("i8", 8)]
)
def test_codes_of_every_width_are_answered_and_counted_per_channel(saved, kind, bits):
    low = -(2 ** (bits - 1)) if kind[0] == "i" else 0
    # Channels of one to five codes each, so that codes of two channels must not be mixed.
    codes = np.stack(
        [low + CHANCE.integers(0, min(count, 2**bits), 48) for count in (1, 2, 3, 4, 3)]
    )
    counts = max(len(np.unique(row)) for row in codes)
    scale = CHANCE.random((5, 1)).astype(np.float32)
    points = np.full((5, 1), low + 1, np.float32)
    stored = codes.astype(np.int8 if low else np.uint8)
    weight = weighted(stored, getattr(ov.Type, kind), scale, points)
    path = saved(linear(weight))
    runtime = runtime_of("openvino", {})
    file = runtime.read(path, SPEC)
    values = ((codes - points) * scale).astype(np.float64)
    check(open_network(file), IMAGES.reshape(70, -1) @ values.T + BIAS, 1e-4)
    assert file.record["levels_counted"] == {"head": counts}
    assert file.record["float_layers"] == []
    assert file.record["quantized_activations"] is False
    assert file.record["bits_per_weight"] == pytest.approx(8 * (240 * bits // 8 + 40) / 240)


def test_weights_that_are_rounded_in_the_graph_are_counted_and_half_floats_are_not(saved):
    limits = [op.constant(np.float32(end)) for end in (-3, 3, -3, 3)]
    rounded = op.fake_quantize(op.constant(WEIGHT), *limits, levels=7)
    record = runtime_of("openvino", {}).read(saved(linear(rounded)), SPEC).record
    assert record["levels_counted"] == {"head": 7}
    record = runtime_of("openvino", {}).read(saved(linear(), half=True), SPEC).record
    assert (record["float_layers"], record["bits_per_weight"]) == (["head"], 16)


def test_a_file_that_is_computed_as_it_says_passes_the_comparison(saved):
    differences = check_sessions(runtime_of("openvino", {}).read(saved(linear()), SPEC), IMAGES)
    assert {"alone and in company", "used and unoptimised"} < set(differences)
    assert max(differences.values()) < 1e-5


def test_a_file_that_its_runtime_computes_otherwise_is_refused_with_the_operator(
    saved, monkeypatch
):
    from bitleak.runtimes import openvino

    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("needs a processor with bfloat16")
    # OpenVINO's own arithmetic against float32, as if its rewriting had brought it.
    monkeypatch.setattr(openvino, "UNOPTIMISED", openvino.FLOAT32)
    runtime = runtime_of("openvino", {"precision": "runtime"})
    with pytest.raises(ModelError, match=r"the first operator that differs is MatMul 'head'"):
        check_sessions(runtime.read(saved(linear(WEIGHT * 9)), SPEC), IMAGES)
