import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.network import layer_inputs as capture
from bitleak.quantizers.network.layer_inputs import execution_order, prepare_layers, stream
from bitleak.quantizers.scheme import Scheme


class Block(nn.Module):
    """Layers defined in another order than that of execution, a residual, in-place operations, a buffer."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("shift", torch.tensor(0.1))

    def forward(self, images, scale=2.0):
        images.mul_(scale)
        hidden = F.relu_(self.norm(self.first(images)))
        hidden += self.second(hidden) + self.shift
        return self.head(input=hidden.mean((2, 3)).repeat(1, 2))


@pytest.fixture
def images():
    return torch.randn(7, 2, 5, 5, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return Block().eval()


def inputs_by_running(networks, images, name):
    """The definition: run every network as a whole and look at what the layer was given."""
    seen = []
    for each in networks:
        keep = lambda module, args, kwargs: seen.append((args or tuple(kwargs.values()))[0].clone())  # noqa: E731
        handle = each.get_submodule(name).register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            each(images.clone())
        handle.remove()
    return seen


ORDER = ["first", "second", "head"]


def test_the_order_is_that_of_execution(images):
    assert execution_order(network(), ["head", "second", "first"], images) == ORDER


def test_a_layer_called_twice_is_refused_by_name(images):
    layer = nn.Conv2d(2, 2, 1)
    with pytest.raises(QuantizationError, match="layer '0' is used 2 times"):
        execution_order(nn.Sequential(layer, nn.ReLU(), layer).eval(), ["0"], images)


def test_a_layer_never_called_is_refused_by_name(images):
    unused = network()
    unused.spare = nn.Linear(2, 2)
    with pytest.raises(QuantizationError, match="layer 'spare' is never called"):
        execution_order(unused, [*ORDER, "spare"], images)


def test_an_empty_calibration_set_is_refused(images):
    with pytest.raises(QuantizationError, match="empty"):
        execution_order(network(), ORDER, images[:0])


def test_streaming_shows_every_record_once_and_leaves_no_hook(images, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 50)
    seen, each = [], network()
    stream(each, images, {"second": lambda name, inputs: seen.append(inputs.clone())})
    torch.testing.assert_close(torch.cat(seen), inputs_by_running([each], images, "second")[0])
    assert len(seen) == 4
    assert not each.second._forward_pre_hooks


def test_the_copy_to_work_on_is_in_evaluation_mode_and_shares_nothing(images):
    original = network().train()
    copied, layers, levels = prepare_layers(Scheme(levels=3, last=5), original, images)
    assert not any(module.training for module in copied.modules())
    assert original.training
    assert list(layers) == ORDER
    assert levels == {"first": 3, "second": 3, "head": 5}
    assert layers["head"].weight is copied.head.weight is not original.head.weight


def test_a_layer_in_a_loop_over_the_images_is_refused():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.f = nn.Conv2d(1, 2, 3), nn.Linear(4, 2)

        def forward(self, x):
            return torch.stack([self.f(self.conv(image).mean(0)[0, :4]) for image in x])

    several = torch.zeros(3, 1, 8, 8)
    with pytest.raises(
        QuantizationError, match="layer 'conv' is given a tensor of 3 axes, a single image"
    ):
        execution_order(Loop().eval(), ["conv", "f"], several)
    with pytest.raises(QuantizationError, match="layer 'f' is used 2 times"):
        execution_order(Loop().eval(), ["f"], several)
