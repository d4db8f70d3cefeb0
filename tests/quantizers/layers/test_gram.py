import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.quantizers.layers.gram import gram, moment


def inputs_of_weights(layer, images):
    """x per group: a copy of the layer whose weight is the identity gives every input of every position."""
    groups = getattr(layer, "groups", 1)
    shape = layer.weight.shape[1:]
    identity = torch.eye(shape.numel(), dtype=torch.float64).reshape(-1, *shape)
    columns = []
    for part in images.double().chunk(groups, dim=-1 if isinstance(layer, nn.Linear) else 1):
        if isinstance(layer, nn.Linear):
            columns.append(part.reshape(-1, part.shape[-1]).T)
            continue
        copied = type(layer)(
            shape[0], len(identity), layer.kernel_size, layer.stride, layer.padding, layer.dilation,
            bias=False, padding_mode=layer.padding_mode,
        ).double()  # fmt: skip
        copied.weight.data = identity
        columns.append(copied(part).detach().transpose(0, 1).flatten(1))
    return torch.stack(columns)  # (groups, columns, positions)


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check(layer, images):
    columns = inputs_of_weights(layer, images)
    expected = columns @ columns.mT
    torch.testing.assert_close(
        gram(layer, images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )
    outputs = torch.randn_like(layer(images))
    rows = outputs.double().movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)
    product = rows.unflatten(0, (len(columns), -1)) @ columns.mT
    torch.testing.assert_close(
        moment(layer, images, outputs), product.flatten(0, 1), rtol=1e-4, atol=1e-3
    )


KERNELS = [1, 2, 3, (3, 1), (1, 5)]


@pytest.mark.parametrize(("kernel", "padding"), [*itertools.product(KERNELS, range(4))])
def test_convolutions_of_every_geometry_agree_with_their_definition(kernel, padding):
    images = draw(5, 4, 7, 9)
    for dilation, stride, groups in itertools.product((1, 2), (1, 2), (1, 2)):
        check(nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups), images)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 2, 3, padding="same"), (3, 4, 5, 5)),
        (nn.Conv2d(4, 2, 3, padding="valid", dilation=2), (3, 4, 6, 5)),
        (nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), (3, 4, 5, 5)),
        (nn.Conv2d(4, 2, 3, padding=2, stride=2, padding_mode="circular"), (3, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), (3, 4, 5, 5)),
        (nn.Conv2d(2, 2, 3, padding=4, dilation=2), (3, 2, 1, 2)),
        (nn.Conv2d(2, 2, 3, padding=5), (3, 2, 1, 1)),
        (nn.Conv1d(3, 2, 3, padding=1), (4, 3, 8)),
        (nn.Conv1d(4, 2, 3, stride=2, groups=2), (4, 4, 8)),
        (nn.Conv3d(2, 2, 3, padding=1), (2, 2, 4, 3, 5)),
        (nn.Linear(4, 3), (6, 4)),
        (nn.Linear(4, 3), (6, 5, 4)),
    ],
)
def test_other_layers_agree_with_their_definition(layer, shape):
    check(layer, draw(*shape))


def test_small_parts_add_up_to_the_same(monkeypatch):
    layer, images = nn.Conv2d(4, 2, 3, padding=1), draw(6, 4, 5, 5)
    whole = gram(layer, images)
    monkeypatch.setattr("bitleak.quantizers.layers.gram.PATCH_CHUNK", 1)
    torch.testing.assert_close(gram(layer, images), whole, rtol=1e-6, atol=1e-4)


def test_the_gram_matrix_is_symmetric_and_has_no_negative_eigenvalue():
    images = F.relu(draw(8, 6, 6, 6))
    matrix = gram(nn.Conv2d(6, 1, 3, padding=1), images)[0]
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-6, atol=1e-4)
    assert torch.linalg.eigvalsh(matrix).min() > 0
