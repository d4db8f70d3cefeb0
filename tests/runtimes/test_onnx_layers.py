"""Layers of ONNX files: values per grid and stored bytes, for the integer operators of ONNX and ONNX Runtime."""

import numpy as np
import pytest

from bitleak.core.errors import ModelError
from bitleak.runtimes.onnx_files import read_content
from bitleak.runtimes.onnx_layers import file_layers

onnx = pytest.importorskip("onnx", reason="needs bitleak[onnx]")

# Two output channels of 8 weights with 2 and 3 codes, which are 5 different codes together.
CODES = np.array([[1, 2, 1, 2, 1, 2, 1, 2], [7, 8, 9, 7, 8, 9, 7, 8]], np.uint8)


def layer(operator, inputs, constants, **attributes):
    """The one layer of a graph of one product."""
    helper = onnx.helper
    domain = attributes.pop("domain", "")
    node = helper.make_node(operator, inputs, ["logits"], name="head", domain=domain, **attributes)
    tensors = []
    for name, values in constants.items():
        tensors.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    graph = helper.make_graph([node], "graph", [], [], tensors)
    (found,) = file_layers(helper.make_model(graph))
    return found


@pytest.mark.parametrize(
    ("operator", "place", "transposed"),
    [
        ("QLinearConv", "x xs xz W S Z ys yz", False),
        ("QLinearMatMul", "a as az W S Z ys yz", True),
        ("QGemm", "a as az W S Z", True),
        ("MatMulIntegerToFloat", "a W as S az Z", True),
        ("DynamicQuantizeMatMul", "a W S Z", True),
    ],
)
def test_integer_products_are_counted_per_scale_of_their_weight(operator, place, transposed):
    weight = CODES.T.copy() if transposed else CODES[:, :, None, None]
    constants = {"W": weight, "S": np.ones(2, np.float32), "Z": np.zeros(2, np.uint8)}
    found = layer(operator, place.split(), constants)
    # 16 codes, two scales of 4 bytes and two zero points.
    assert (found.levels, found.bits, found.weights, found.bytes) == (3, 8, 16, 16 + 8 + 2)


def test_one_scale_for_a_weight_counts_the_codes_of_all_channels():
    constants = {"W": CODES.T.copy(), "S": np.ones((), np.float32), "Z": np.zeros((), np.uint8)}
    found = layer("QLinearMatMul", ["a", "as", "az", "W", "S", "Z", "ys", "yz"], constants)
    assert (found.levels, found.bytes) == (5, 16 + 4 + 1)


def packed(codes, bits):
    """Codes as a stream of bits, the first code in the lowest bits of the first byte."""
    stream = 0
    for place, code in enumerate(codes):
        stream |= int(code) << (place * bits)
    return list(stream.to_bytes(-(-len(codes) * bits // 8), "little"))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_blocks_of_packed_weights_are_counted_at_every_width(bits):
    codes = np.random.default_rng(0).integers(0, 2**bits, (3, 32))
    blocks = [packed(part, bits) for row in codes for part in (row[:16], row[16:])]
    constants = {
        "W": np.array(blocks, np.uint8).reshape(3, 2, -1),
        "S": np.ones(6, np.float32),
    }
    attributes = {} if bits == 4 else {"bits": bits}  # 4 is the operator's default
    found = layer("MatMulNBits", ["x", "W", "S"], constants, K=32, N=3, block_size=16, **attributes)
    expected = max(
        len(np.unique(row[side])) for row in codes for side in (slice(16), slice(16, 32))
    )
    assert (found.levels, found.bits, found.weights) == (expected, bits, 96)
    assert found.bytes == 96 * bits // 8 + 24


def test_float16_scales_take_two_bytes():
    constants = {"W": CODES, "S": np.ones(2, np.float16), "Z": np.zeros(2, np.uint8)}
    found = layer("QLinearConv", ["x", "xs", "xz", "W", "S", "Z", "ys", "yz"], constants)
    assert found.bytes == 16 + 4 + 2


def test_values_of_sparse_attributes_are_not_read_from_other_folders(tmp_path):
    helper = onnx.helper
    values = helper.make_tensor("values", onnx.TensorProto.FLOAT, [1], [0.0])
    values.ClearField("float_data")
    values.data_location = onnx.TensorProto.EXTERNAL
    values.external_data.add(key="location", value="../secret")
    places = helper.make_tensor("places", onnx.TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, places, [4])
    node = helper.make_node("Constant", [], ["logits"], sparse_value=sparse)
    path = tmp_path / "net.onnx"
    model = helper.make_model(helper.make_graph([node], "graph", [], []))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the folder of the file"):
        read_content(path)
