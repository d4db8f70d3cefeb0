import pytest
import torch
from torch import nn

from bitleak.quant import capture
from bitleak.quant.reestimate import reestimate


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4), nn.BatchNorm1d(4)]
    for norm in (layers[1], layers[5]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("positions", [1 << 16, 75])
def test_each_batch_norm_gets_the_statistics_of_all_images_behind_those_before_it(positions, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", positions)
    images = 3 + torch.randn(11, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    changed = network()
    assert reestimate(changed, images) == ["1", "5"]
    with torch.no_grad():
        first = changed[:1](images).double().transpose(0, 1).flatten(1)
        second = changed[:5](images).double().T
    for norm, rows in ((changed[1], first), (changed[5], second)):
        torch.testing.assert_close(norm.running_mean, rows.mean(1).float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var, rows.var(1).float(), rtol=1e-5, atol=1e-6)


def test_nothing_but_the_statistics_changes_and_no_module_is_left_in_training():
    before, changed = network().state_dict(), network()
    reestimate(changed, torch.randn(4, 2, 5, 5))
    different = {name for name, value in changed.state_dict().items() if not torch.equal(value, before[name])}
    assert different == {f"{name}.running_{part}" for name in ("1", "5") for part in ("mean", "var")}
    assert not any(module.training for module in changed.modules())


def test_a_network_without_batch_norm_is_left_alone():
    assert reestimate(nn.Sequential(nn.Linear(2, 2)).eval(), torch.zeros(1, 2)) == []
