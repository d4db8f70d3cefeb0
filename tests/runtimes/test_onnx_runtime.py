"""ONNX files in ONNX Runtime: the same logits from every form of a network, and refusals of what is read wrongly."""

from dataclasses import replace

import numpy as np
import pytest
from onnx_networks import REASON

from bitleak.core.errors import ModelError
from bitleak.core.types import CUT_SUMS, ModelSpec
from bitleak.runtimes import onnx as onnx_runtime
from bitleak.runtimes.integer_products import products_saturate
from bitleak.runtimes.operator_places import GraphOperator, first_difference
from bitleak.runtimes.runtime import open_network, runtime_for, runtime_of
from bitleak.runtimes.session_comparison import check_sessions

onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)
helper, kinds = onnx.helper, onnx.TensorProto

SPEC = ModelSpec("cnn", {}, 5, 3, 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
CHANCE = np.random.default_rng(0)
WEIGHT = CHANCE.standard_normal((5, 48)).astype(np.float32)
BIAS = CHANCE.standard_normal(5).astype(np.float32)
PIXELS = CHANCE.integers(0, 256, (70, 3, 4, 4))
MEAN, STD = (np.array(values).reshape(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
IMAGES = ((PIXELS / 255 - MEAN) / STD).astype(np.float32)
EXPECTED = IMAGES.reshape(70, -1).astype(np.float64) @ WEIGHT.T + BIAS


def tensor(name, values):
    return onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)


def model(nodes, constants, *, entry=None, outputs=None, opset=21, extra=()):
    """A file of a linear network; `entry` and `outputs` are (name, type, shape)."""
    entry = entry or ("images", kinds.FLOAT, ["n", 3, 4, 4])
    outputs = outputs or [("logits", kinds.FLOAT, ["n", 5])]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(*entry)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", opset), *[helper.make_opsetid(name, 1) for name in extra]]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def linear(before=(), after=(), source="images", *, weight=WEIGHT, constants=(), **options):
    nodes = [
        *before,
        helper.make_node("Flatten", [source], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        *after,
    ]
    return model(nodes, [tensor("weight", weight), tensor("bias", BIAS), *constants], **options)


@pytest.fixture
def opened(tmp_path):
    """Saves a model and opens it."""

    def run(proto, spec=SPEC, **options):
        path = tmp_path / "net.onnx"
        onnx.save(proto, path)
        _, runtime = runtime_for(path, options)
        return open_network(runtime.read(path, spec))

    return run


@pytest.fixture
def refusal(opened):
    """The message by which a model is refused."""

    def run(proto, **options):
        with pytest.raises(ModelError) as error:
            opened(proto, **options)(IMAGES)
        return str(error.value)

    return run


def check(network, tolerance=1e-5):
    assert np.abs(network(IMAGES) - EXPECTED).max() <= tolerance


def test_a_file_answers_with_its_logits(opened):
    network = opened(linear())
    check(network)
    assert network.facts["threads"] == 1
    assert network.facts["runtime"].startswith("onnxruntime 1.")
    assert (network.facts["optimisation"], network.facts["accuracy_level"]) == ("all", 0)


def test_an_image_is_answered_alike_alone_and_in_company(opened):
    for proto in (
        linear(),
        linear(
            entry=("images", kinds.FLOAT, [7, 3, 4, 4]), outputs=[("logits", kinds.FLOAT, [7, 5])]
        ),
    ):
        network = opened(proto)
        together = network(IMAGES)
        assert together.shape == (70, 5)
        for record in (0, 6, 69):
            assert (network(IMAGES[record : record + 1])[0] == together[record]).all()


def test_images_with_the_channels_last_are_given_with_the_channels_last(opened):
    by_pixel = WEIGHT.reshape(5, 3, 4, 4).transpose(0, 2, 3, 1).reshape(5, -1)
    check(opened(linear(weight=by_pixel, entry=("images", kinds.FLOAT, ["n", 4, 4, 3]))))


def test_a_shape_that_does_not_say_where_the_channels_are_needs_the_option_layout(opened, refusal):
    unknown = linear(entry=("images", kinds.FLOAT, ["n", "a", "b", "c"]))
    assert "does not say where the channels are; set the runtime's option layout" in refusal(
        unknown
    )
    check(opened(unknown, layout="NCHW"))


def test_pixels_are_given_to_a_file_that_standardises_them(opened):
    nodes = [
        helper.make_node("Div", ["images", "full"], ["unit"]),
        helper.make_node("Sub", ["unit", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["standard"]),
    ]
    constants = [tensor("mean", MEAN.astype(np.float32)), tensor("std", STD.astype(np.float32))]
    for full, pixels in ((1.0, "unit"), (255.0, "bytes")):
        scale = tensor("full", np.float32(full))
        network = opened(
            linear(nodes, source="standard", constants=[*constants, scale]), pixels=pixels
        )
        check(network, 2e-5)


def test_pixels_as_bytes_are_the_bytes_of_the_images(opened):
    cast = [helper.make_node("Cast", ["images"], ["floats"], to=kinds.FLOAT)]
    network = opened(
        linear(cast, source="floats", entry=("images", kinds.UINT8, ["n", 3, 4, 4])), pixels="bytes"
    )
    expected = PIXELS.reshape(70, -1) @ WEIGHT.T.astype(np.float64) + BIAS
    assert np.abs(network(IMAGES) / expected - 1).max() < 1e-4


def int8(zero_point=3, scale=0.05):
    grid = [tensor("scale", np.float32(scale)), tensor("point", np.int8(zero_point))]
    entry = ("images", kinds.INT8, ["n", 3, 4, 4])
    return grid, entry


def test_an_int8_input_is_quantized_by_the_scale_that_the_file_reads_it_with(opened):
    grid, entry = int8()
    nodes = [helper.make_node("DequantizeLinear", ["images", "scale", "point"], ["floats"])]
    network = opened(linear(nodes, source="floats", constants=grid, entry=entry))
    rounded = np.clip(np.rint(IMAGES / np.float32(0.05)) + 3, -128, 127) - 3
    expected = (rounded * np.float32(0.05)).reshape(70, -1) @ WEIGHT.T + BIAS
    assert np.abs(network(IMAGES) - expected).max() < 1e-4


def test_an_int8_input_of_unknown_scale_is_refused_and_not_read_as_floats(opened, refusal):
    cast = [helper.make_node("Cast", ["images"], ["floats"], to=kinds.FLOAT)]
    proto = linear(cast, source="floats", entry=("images", kinds.INT8, ["n", 3, 4, 4]))
    assert "input 'images' is int8, and no DequantizeLinear takes it" in refusal(proto)
    network = opened(proto, input_scale=0.05, input_zero_point=0)
    rounded = np.clip(np.rint(IMAGES / np.float32(0.05)), -128, 127)
    assert np.abs(network(IMAGES) - (rounded.reshape(70, -1) @ WEIGHT.T + BIAS)).max() < 2e-3


def test_an_int8_output_is_multiplied_by_its_scale(opened):
    grid = [tensor("scale", np.float32(0.5)), tensor("point", np.int8(-7))]
    after = [helper.make_node("QuantizeLinear", ["logits", "scale", "point"], ["answer"])]
    network = opened(
        linear(after=after, constants=grid, outputs=[("answer", kinds.INT8, ["n", 5])])
    )
    answers = network(IMAGES)
    assert np.abs(answers - EXPECTED).max() <= 0.2501
    assert (answers % 0.5 == 0).all()


def test_probabilities_are_told_from_logits_and_their_logarithm_is_taken(opened):
    after = [helper.make_node("Softmax", ["logits"], ["p"], axis=1)]
    proto = linear(after=after, weight=WEIGHT / 8, outputs=[("p", kinds.FLOAT, ["n", 5])])
    logits = IMAGES.reshape(70, -1).astype(np.float64) @ (WEIGHT.T / 8) + BIAS
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    network = opened(proto)
    assert network.facts["answers"] == "probabilities"
    assert np.abs(network(IMAGES) - expected).max() < 1e-5
    # The tensor before the Softmax, by its name.
    assert np.abs(opened(proto, output="logits")(IMAGES) - logits).max() < 1e-5


def test_probabilities_that_are_rounded_to_zero_are_refused(refusal):
    after = [helper.make_node("Softmax", ["logits"], ["p"], axis=1)]
    proto = linear(after=after, weight=WEIGHT * 40, outputs=[("p", kinds.FLOAT, ["n", 5])])
    assert "rounded to 0" in refusal(proto)
    assert "option output" in refusal(proto)


def test_logits_that_are_taken_for_probabilities_are_refused(refusal):
    message = refusal(linear(), answers="probabilities")
    assert "should hold probabilities, got values from -" in message


def test_one_of_several_outputs_is_chosen_by_its_name(opened, refusal):
    after = [helper.make_node("Relu", ["flat"], ["features"])]
    outputs = [("features", kinds.FLOAT, ["n", 48]), ("logits", kinds.FLOAT, ["n", 5])]
    proto = linear(after=after, outputs=outputs)
    assert "has 2 outputs ('features' [n, 48], 'logits' [n, 5]); name one" in refusal(proto)
    assert "unknown output 'logit': did you mean 'logits'?" in refusal(proto, output="logit")
    assert "has the shape [n, 48], but the data has 5 classes" in refusal(proto, output="features")
    check(opened(proto, output="logits"))


def test_a_network_for_another_data_set_is_refused(opened):
    for change, words in (
        ({"classes": 10}, "output 'logits' has the shape [n, 5], but the data has 10 classes"),
        ({"size": 8}, "images are [records] and [3, 8, 8] or [8, 8, 3], got [any, 3, 4, 4]"),
        (
            {"channels": 1},
            "[1, 4, 4] or [4, 4, 1], got [any, 3, 4, 4]; is it a network for another data set?",
        ),
    ):
        with pytest.raises(ModelError) as error:
            opened(linear(), replace(SPEC, **change))
        assert words in str(error.value)


def test_answers_that_are_not_finite_are_refused(refusal):
    broken = WEIGHT.copy()
    broken[2, 1] = np.nan
    assert "output 'logits' is not finite for" in refusal(linear(weight=broken))


def test_a_newer_opset_than_the_runtime_has_is_refused(refusal):
    message = refusal(linear(opset=999))
    assert "cannot load the file" in message
    assert "export for an older opset" in message
    assert "onnxruntime_src" not in message


def test_a_custom_operator_is_refused(refusal):
    before = [helper.make_node("Warp", ["images"], ["warped"], domain="zoo.ops")]
    message = refusal(linear(before, source="warped", extra=["zoo.ops"]))
    assert "operator zoo.ops.Warp (node '') is none of ONNX or ONNX Runtime" in message


def test_an_operator_that_reads_other_files_is_refused(refusal):
    before = [helper.make_node("EPContext", ["images"], ["other"], domain="com.microsoft")]
    assert "EPContext" in refusal(linear(before, source="other", extra=["com.microsoft"]))


def external(path, location, length=None):
    proto = linear()
    values = proto.graph.initializer[0]
    content = values.raw_data
    onnx.external_data_helper.set_external_data(values, location, length=length or len(content))
    values.ClearField("raw_data")
    path.write_bytes(proto.SerializeToString())
    return content


def test_data_beside_the_file_are_read_and_part_of_its_digest(tmp_path):
    path = tmp_path / "net.onnx"
    content = external(path, "net.onnx.data")
    (tmp_path / "net.onnx.data").write_bytes(content)
    runtime = runtime_of("onnx", {})
    first = runtime.read(path, SPEC)
    check(open_network(first))
    assert first.size == path.stat().st_size + len(content)
    (tmp_path / "net.onnx.data").write_bytes(content[:-4] + b"\0\0\0\0")
    assert runtime.read(path, SPEC).digest != first.digest


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "inside/../../secret", "link", "", "."]
)
def test_data_outside_the_folder_of_the_file_are_refused(tmp_path, location):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"0" * 960)
    (folder / "link").symlink_to(tmp_path / "secret")
    external(folder / "net.onnx", location)
    with pytest.raises(ModelError, match=r"outside the folder of the file, which is refused"):
        runtime_of("onnx", {}).read(folder / "net.onnx", SPEC)


def test_data_that_are_missing_or_too_short_are_named(tmp_path):
    path = tmp_path / "net.onnx"
    content = external(path, "net.data")
    with pytest.raises(ModelError, match=r"'net.data' with its tensors cannot be read"):
        runtime_of("onnx", {}).read(path, SPEC)
    (tmp_path / "net.data").write_bytes(content[:100])
    with pytest.raises(ModelError, match=r"ends after the end of net.data \(100 bytes\)"):
        runtime_of("onnx", {}).read(path, SPEC)


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"PK\x03\x04", b"<html>"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        runtime_of("onnx", {}).read(tmp_path / "net.onnx", SPEC)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimization": "none"}, "unknown option 'optimization': did you mean 'optimisation'?"),
        ({"optimisation": "some"}, "optimisation"),
        ({"accuracy_level": 9}, "accuracy_level must be an integer from 0 to 4, got 9"),
        ({"layout": "NCWH"}, "layout"),
        ({"pixels": "raw"}, "pixels"),
        ({"batch": 0}, "batch must be an integer from 1 to 4096, got 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        runtime_of("onnx", options)


def few_bits(outputs=5, columns=64):
    """A product of float activations and 2-bit weights by DequantizeLinear and MatMul, as a quantizer writes it."""
    codes = CHANCE.integers(0, 4, (columns, outputs)).astype(np.uint8)
    from bitleak.runtimes.packed_codes import pack_codes

    scale = (0.05 + 0.1 * CHANCE.random((columns // 16, outputs))).astype(np.float32)
    points = np.ones((columns // 16, outputs), np.uint8)
    constants = [
        helper.make_tensor(
            "codes", kinds.UINT2, codes.shape, pack_codes(codes.ravel(), 2), raw=True
        ),
        tensor("scale", scale),
        helper.make_tensor(
            "points", kinds.UINT2, points.shape, pack_codes(points.ravel(), 2), raw=True
        ),
        tensor("shape", np.array([-1, columns])),
        tensor("project", CHANCE.standard_normal((48, columns)).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "project"], ["wide"], name="project"),
        helper.make_node(
            "DequantizeLinear", ["codes", "scale", "points"], ["weight"], axis=0, block_size=16
        ),
        helper.make_node("MatMul", ["wide", "weight"], ["logits"], name="head"),
    ]
    proto = model(nodes, constants, opset=25)
    proto.ir_version = 13
    return proto


def test_a_file_that_its_runtime_computes_otherwise_is_refused_with_the_operator(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(few_bits(), path)
    runtime = runtime_of("onnx", {"accuracy_level": 4})
    with pytest.raises(ModelError) as error:
        check_sessions(runtime.read(path, SPEC), IMAGES)
    assert "onnxruntime" in str(error.value)
    assert "the first operator that differs is MatMul 'head'" in str(error.value)
    chosen = runtime_of("onnx", {"optimisation": "none"})
    assert check_sessions(chosen.read(path, SPEC), IMAGES)["used and unoptimised"] == 0


def test_a_file_that_is_computed_as_it_says_passes_the_comparison(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(linear(), path)
    differences = check_sessions(runtime_of("onnx", {}).read(path, SPEC), IMAGES)
    assert set(differences) == {
        "alone and in company",
        "used twice",
        "unoptimised twice",
        "used and unoptimised",
    }
    assert max(differences.values()) < 1e-5


CODES = np.clip(np.round(WEIGHT.T * 20), -63, 63).astype(np.int8)


def dynamic(codes=CODES):
    """The linear network by integer products, by default ones that no processor cuts; images on the grid of their
    whole batch.
    """
    nodes = [
        helper.make_node("Flatten", ["images"], ["rows"]),
        helper.make_node("DynamicQuantizeLinear", ["rows"], ["bytes", "step", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "codes", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=kinds.FLOAT),
        helper.make_node("Mul", ["floats", "step"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    scale = np.float32(1 / 20)
    return model(nodes, [tensor("codes", codes), tensor("scale", scale), tensor("bias", BIAS)])


def test_a_file_whose_grid_comes_from_the_whole_batch_is_taken_one_image_at_a_time(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(dynamic(), path)
    with pytest.raises(ModelError) as error:
        check_sessions(runtime_of("onnx", {}).read(path, SPEC), IMAGES)
    assert "depends on the other images of its run" in str(error.value)
    assert "set the runtime's option batch to 1" in str(error.value)

    alone = runtime_of("onnx", {"batch": 1}).read(path, SPEC)
    assert check_sessions(alone, IMAGES)["alone and in company"] == 0
    rows = IMAGES.reshape(70, -1)
    low, high = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
    # Half a step of its own range per pixel, and half a step of 1 / 20 per weight.
    limit = (high - low) / 255 / 2 * np.abs(WEIGHT).sum(axis=1).max() + np.abs(rows).sum(
        axis=1
    ) / 40
    error = np.abs(open_network(alone)(IMAGES) - EXPECTED).max(axis=1)
    assert (error <= 1.1 * limit).all()


@pytest.mark.parametrize("code", [63, 64, 65, 127])
def test_the_arithmetic_says_where_sums_of_products_are_cut(code, opened):
    network = opened(dynamic(np.full_like(CODES, code)), batch=1)
    bright = np.tile(
        np.linspace(0.99, 1, 4, dtype=np.float32), (1, 3, 4, 1)
    )  # bytes of 252 and more
    steps = np.rint(bright / np.float32(1 / 255)) / 255
    exact = steps.sum() * code / 20 + BIAS
    cut = network.facts["arithmetic"] == CUT_SUMS
    assert cut is (products_saturate() and code > 64)
    assert (np.abs(network(bright)[0] - exact).max() > 1) == (cut and code > 65)


def joined_layer(codes):
    """A product of weights and inputs that are both quantized, in the usual form."""
    step = [tensor("step", np.float32(4 / 255)), tensor("middle", np.uint8(128))]
    nodes = [helper.make_node("Flatten", ["images"], ["rows"])]
    for source, place in (("rows", "in"), ("products", "out")):
        if place == "out":
            nodes.append(helper.make_node("DequantizeLinear", ["codes", "scale"], ["weight"]))
            nodes.append(helper.make_node("MatMul", ["in", "weight"], ["products"]))
        names = [f"{place}_bytes", "step", "middle"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *names[1:]], names[:1]))
        nodes.append(helper.make_node("DequantizeLinear", names, [place]))
    nodes.append(helper.make_node("Add", ["out", "bias"], ["logits"]))
    constants = [*step, codes, tensor("scale", np.float32(1 / 99)), tensor("bias", BIAS)]
    return model(nodes, constants, opset=25)


@pytest.mark.parametrize(
    ("optimisation", "arithmetic"),
    [("none", None), ("basic", None), ("extended", "8-bit integers"), ("all", "8-bit integers")],
)
def test_products_between_quantizers_are_of_integers_where_they_are_joined(
    optimisation, arithmetic, opened, tmp_path, monkeypatch
):
    proto = joined_layer(tensor("codes", np.full((48, 5), 127, np.int8)))
    for saturate in (False, True):
        monkeypatch.setattr(onnx_runtime, "products_saturate", lambda: saturate)  # noqa: B023
        network = opened(proto, optimisation=optimisation)
        found = network.facts.get("arithmetic")
        assert found == (CUT_SUMS if saturate and arithmetic else arithmetic)
    # The level is what decides: the session's own graph has the joined operator, or has not.
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, onnx_runtime.LEVELS[optimisation]
    )
    options.optimized_model_filepath = str(tmp_path / "joined.onnx")
    onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    operators = {node.op_type for node in onnx.load(tmp_path / "joined.onnx").graph.node}
    assert ("QLinearMatMul" in operators) is (arithmetic is not None)


def test_two_bits_with_rounded_activations_are_refused_with_the_level_that_takes_them(
    opened, refusal
):
    packed = np.full(48 * 5 // 4, 0b01_00_11_01, np.uint8).tobytes()
    proto = joined_layer(helper.make_tensor("codes", kinds.INT2, (48, 5), packed, raw=True))
    message = refusal(proto)
    assert "joins 2-bit weights and rounded activations" in message
    assert "set the runtime's option optimisation: basic" in message
    plain, basic = (opened(proto, optimisation=level)(IMAGES) for level in ("none", "basic"))
    np.testing.assert_allclose(basic, plain, atol=0.02)


def test_a_file_that_draws_random_numbers_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    noise = [
        helper.make_node("RandomNormalLike", ["logits"], ["noise"]),
        helper.make_node("Add", ["logits", "noise"], ["answers"]),
    ]
    onnx.save(linear(after=noise, outputs=[("answers", kinds.FLOAT, ["n", 5])]), path)
    with pytest.raises(ModelError, match=r"otherwise in its next run, by .* draws random numbers"):
        check_sessions(runtime_of("onnx", {}).read(path, SPEC), IMAGES)


SOFTMAX = [
    helper.make_node("Exp", ["logits"], ["powers"]),
    helper.make_node("ReduceSum", ["powers", "axis"], ["sums"]),
    helper.make_node("Div", ["powers", "sums"], ["answers"]),
]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (SOFTMAX, "its answers are probabilities (from 0 to 1, of sum 1 per image)"),
        ([helper.make_node("Sigmoid", ["logits"], ["answers"])], "as those of a Sigmoid"),
    ],
    ids=["softmax", "sigmoid"],
)
def test_probabilities_that_no_softmax_makes_are_not_read_as_logits(tmp_path, after, message):
    path = tmp_path / "net.onnx"
    constants = [tensor("axis", np.array([1], np.int64))]
    output = [("answers", kinds.FLOAT, ["n", 5])]
    onnx.save(linear(after=after, outputs=output, constants=constants, weight=WEIGHT / 20), path)
    with pytest.raises(ModelError) as error:
        check_sessions(runtime_of("onnx", {}).read(path, SPEC), IMAGES)
    assert message in str(error.value)
    kind = "probabilities" if after is SOFTMAX else "logits"
    for options in ({"answers": kind}, {"output": "logits"}):
        file = runtime_of("onnx", options).read(path, SPEC)
        assert check_sessions(file, IMAGES)["used and unoptimised"] < 1e-5


def test_the_operator_is_named_at_which_answers_stop_being_finite(refusal):
    """exp(300 x) is infinite for some images, and infinite - infinite is NaN in the answers."""
    large = tensor("large", np.full(1, 300, np.float32))
    after = [
        helper.make_node("Mul", ["logits", "large"], ["wide"], name="widen"),
        helper.make_node("Exp", ["wide"], ["overflow"], name="grow"),
        helper.make_node("Sub", ["overflow", "overflow"], ["gap"], name="gap"),
        helper.make_node("Add", ["gap", "logits"], ["answers"], name="join"),
    ]
    proto = linear(after=after, outputs=[("answers", kinds.FLOAT, ["n", 5])])
    proto.graph.initializer.append(large)
    message = refusal(proto)
    assert "output 'answers' is not finite for" in message
    assert message.endswith("the first operator that is not finite is Exp 'grow'")


def test_a_difference_is_placed_on_any_operator_of_a_graph_with_branches():
    """Two branches meet: operator 5 is wrong, and 6 to 8 of the other branch are right."""
    inputs = {
        0: (),
        1: (0,),
        2: (0,),
        3: (2,),
        4: (3,),
        5: (4,),
        6: (1,),
        7: (6,),
        8: (7,),
        9: (8, 5),
        10: (9,),
    }
    operators = [GraphOperator(f"op{place}", before) for place, before in inputs.items()]
    looked = []

    def differs(wrong):
        def run(place):
            looked.append(place)
            return wrong in reached(place)

        return run

    def reached(place):
        return {place}.union(*(reached(before) for before in inputs[place]))

    for wrong in inputs:
        assert first_difference(operators, differs(wrong)) == wrong
    assert len(looked) < 8 * len(inputs)
    assert first_difference(operators, lambda place: False) is None
    assert first_difference([], lambda place: True) is None
