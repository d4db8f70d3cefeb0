"""Networks in other types, in wrappers, or with weights that are no parameters: quantized as they are, or refused."""

import copy
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

from bitleak.core.errors import QuantizationError
from bitleak.quantizers.adaround import AdaRound
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.brecq import BRECQ
from bitleak.quantizers.gptq import GPTQ
from bitleak.quantizers.obc import OBC
from bitleak.quantizers.rtn import RoundToNearest

METHODS = {
    "rtn": RoundToNearest(levels=4),
    "adaround": AdaRound(levels=4, iterations=20, grid="zero"),
    "brecq": BRECQ(levels=4, iterations=10),
    "obc": OBC(levels=4),
    "obc-quantized": OBC(levels=4, inputs="quantized"),
    "gptq": GPTQ(levels=4),
}


class Network(nn.Module):
    """Convolution, batch norm, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv(x)).relu().flatten(1))


class Viewing(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv(x)).relu().view(-1, 64))


def made(kind=Network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind().eval()
        network.bn.running_mean.normal_()
        network.bn.running_var.uniform_(0.5, 2)
    return network


def images():
    return torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@functools.cache
def plain(method):
    """Of the plain network."""
    return run(method, made())


def run(method, network, shown=None):
    return METHODS[method](
        network, images() if shown is None else shown, torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_type_has_the_codes_of_its_weights_and_answers_in_its_type(
    dtype, method
):
    network = made().to(dtype)
    before = copy.deepcopy(network.state_dict())
    expected, found = (
        run(method, copy.deepcopy(network).float()),
        run(method, network, images().to(dtype).float()),
    )
    for name, layer in expected.layers.items():
        if dtype == torch.float64 or torch.equal(images(), images().to(dtype).float()):
            assert (found.layers[name].codes == layer.codes).all()
    quantized = deployed(network, found)
    with torch.no_grad():
        answers = quantized(images().to(dtype))
    assert answers.dtype == dtype
    for name in found.layers:
        weight = quantized.get_submodule(name).weight.detach()
        assert max(len(row.unique()) for row in weight.flatten(1)) <= 4
        stored = torch.from_numpy(found.layers[name].dequantize())
        assert torch.equal(weight, stored.to(dtype))
    assert set(found.dequantize().tensors) == set(before)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    kinds = {torch.float16: np.float16, torch.bfloat16: np.float32, torch.float64: np.float64}
    assert found.rest["fc.bias"].dtype == found.rest["bn.running_var"].dtype == kinds[dtype]
    assert torch.equal(torch.from_numpy(found.rest["fc.bias"]).to(dtype), before["fc.bias"])


def test_tensors_of_a_double_network_that_do_not_change_keep_all_their_digits():
    network = made().double()
    with torch.no_grad():
        network.fc.bias.copy_(torch.linspace(0, 1, 10, dtype=torch.float64) / 3)
    found = run("obc", network)
    assert (found.rest["fc.bias"] == network.fc.bias.detach().numpy()).all()
    assert (found.rest["bn.running_mean"] != network.bn.running_mean.numpy()).all()


def wrapped_inside(wrap):
    network = made()
    network.conv = wrap(network.conv)
    return network


def compiled(network):
    return torch.compile(network, backend="eager")


WRAPPERS = {
    "data parallel": (lambda: nn.DataParallel(made()), "module.conv"),
    "average": (lambda: AveragedModel(made()), "module.conv"),
    "compiled": (lambda: compiled(made()), "_orig_mod.conv"),
    "compiled, parallel": (lambda: nn.DataParallel(compiled(made())), "module._orig_mod.conv"),
    "compiled inside": (lambda: wrapped_inside(compiled), "conv._orig_mod"),
    "parallel inside": (lambda: wrapped_inside(nn.DataParallel), "conv.module"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_network_has_the_codes_of_the_plain_one_under_its_own_names(wrapper):
    make, name = WRAPPERS[wrapper]
    network = make().eval()
    for method in ("rtn", "brecq", "obc-quantized", "gptq"):
        expected, found = plain(method), run(method, network)
        assert (found.layers[name].codes == expected.layers["conv"].codes).all(), method
        assert set(found.dequantize().tensors) == set(network.state_dict())
        if "_orig_mod" not in name:  # compiling takes seconds
            with torch.no_grad():
                answers = deployed(network, found)(images())
                torch.testing.assert_close(answers, deployed(made(), expected)(images()))


@pytest.mark.parametrize("method", METHODS)
def test_channels_last_weights_and_a_view_go_together(method):
    network = made(Viewing).to(memory_format=torch.channels_last)
    found, expected = run(method, network), plain(method)
    assert (found.layers["conv"].codes == expected.layers["conv"].codes).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_callers_mode_of_gradients_does_not_matter(mode, method):
    expected = plain(method)
    with mode():
        network, shown = made(), images()
        assert (run(method, network, shown).layers["fc"].codes == expected.layers["fc"].codes).all()
    assert (run(method, network, shown).layers["fc"].codes == expected.layers["fc"].codes).all()


class Thrice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * x


@pytest.mark.parametrize("place", ["conv.bias", "bn.weight"])
def test_batch_norm_is_not_folded_where_a_tensor_of_either_is_computed(place):
    network = made()
    module, tensor = place.split(".")
    parametrize.register_parametrization(network.get_submodule(module), tensor, Thrice())
    quantized = BRECQ(levels=256, iterations=5)(network, images(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = network(images()), deployed(network, quantized)(images())
    assert float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())


def with_weight_norm():
    network = made()
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(network.conv)
    return network


def pruned(place, tensor):
    network = made()
    prune.l1_unstructured(network.get_submodule(place), tensor, 0.3)
    return network


def with_spectral_norm():
    network = made()
    torch.nn.utils.spectral_norm(network.conv)
    return network


def parametrized():
    network = made()
    parametrizations.weight_norm(network.conv)
    return network


def with_scripted_layer():
    network = made()
    network.conv = torch.jit.script(network.conv)
    return network


def on_meta():
    with torch.device("meta"):
        return Network().eval()


def in_float8():
    network = made()
    network.fc.weight = nn.Parameter(
        network.fc.weight.detach().to(torch.float8_e4m3fn), requires_grad=False
    )
    return network


class Autocast(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class Casting(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.half())


class HalfAnswers(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).half()


REFUSED = {
    "weight norm of before": (with_weight_norm, "layer 'conv': its weight .*remove_weight_norm"),
    "spectral norm of before": (
        with_spectral_norm,
        "layer 'conv': its weight .*remove_spectral_norm",
    ),
    "pruned weight": (
        lambda: pruned("fc", "weight"),
        r"layer 'fc': its weight .*prune.remove\(module, 'weight'\)",
    ),
    "pruned bias": (
        lambda: pruned("fc", "bias"),
        r"layer 'fc': its bias .*prune.remove\(module, 'bias'\)",
    ),
    "pruned norm": (
        lambda: pruned("bn", "weight"),
        r"module 'bn': its weight .*prune.remove\(module, 'weight'\)",
    ),
    "parametrized": (
        parametrized,
        "layer 'conv': its weight is computed from others.*remove_parametrizations",
    ),
    "scripted": (
        lambda: torch.jit.script(made()),
        "the network is a scripted module.* the module that it was made of",
    ),
    "traced": (lambda: torch.jit.trace(made(), images()), "the network is a scripted module"),
    "scripted layer": (with_scripted_layer, "'conv' is a scripted module"),
    "no weights": (on_meta, "'conv.weight' is on the device `meta`"),
    "lazy": (
        lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)),
        "'1.weight' has no values yet",
    ),
    "float8": (in_float8, "'fc.weight' is of type float8_e4m3fn"),
    "autocast": (
        lambda: made(Autocast),
        "layer 'conv' gives bfloat16 .* take the cast or autocast out",
    ),
    "cast": (
        lambda: made(Casting).half(),
        r"Casting does not take calibration images of shape \(1, 6, 6\) in float32",
    ),
    "cast of answers": (lambda: made(HalfAnswers), "the network answers in float16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_quantized_is_refused_with_the_way_out(case):
    make, message = REFUSED[case]
    network = make()
    for method in METHODS:
        with pytest.raises(QuantizationError, match=message):
            run(method, network)


class Fourier(Network):
    """Complex factors on the way, which are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factors", torch.full((6,), 1j))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.fft.ifft(torch.fft.fft(x) * self.factors).imag)


@pytest.mark.parametrize("method", METHODS)
def test_complex_numbers_beside_the_weights_stay_as_they_are(method):
    found = run(method, made(Fourier))
    assert (found.layers["conv"].codes == plain(method).layers["conv"].codes).mean() > 0.98
    assert found.rest["factors"].dtype == np.complex64


class Penalised(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / self.fc.weight.norm(dim=1)


class Twofold(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.bn(self.conv(x)).relu().flatten(1)
        return self.fc(maps) + F.linear(maps * maps, self.fc.weight)


class Dynamic(Penalised):
    """Not traceable."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + 1 if x.sum() > 1e9 else x)


class Typed(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.to(self.fc.weight.dtype).to(self.conv.weight.device))


@pytest.mark.parametrize("kind", [Penalised, Twofold, Dynamic])
def test_a_weight_that_is_also_read_elsewhere_is_refused_where_inputs_are_looked_at(kind):
    network = made(kind)
    for method in METHODS:
        if method != "rtn":
            with pytest.raises(
                QuantizationError, match=r"layer 'fc' is also used otherwise.*\"fc\": fp32"
            ):
                run(method, network)
    assert (run("rtn", network).layers["fc"].codes == plain("rtn").layers["fc"].codes).all()
    assert (
        "fc"
        not in OBC(levels=4, layers={"fc": "fp32"})(network, images(), torch.Generator()).layers
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_type_and_place_of_a_weight_may_be_read_elsewhere(method):
    assert (
        run(method, made(Typed)).layers["conv"].codes == plain(method).layers["conv"].codes
    ).all()


def test_float32_is_exact_in_every_quantizer_whatever_the_caller_has_set():
    for method in METHODS:
        expected = plain(method)
        torch.set_float32_matmul_precision("medium")
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = run(method, made())
        finally:
            torch.set_float32_matmul_precision("highest")
        assert found.record == expected.record, method
