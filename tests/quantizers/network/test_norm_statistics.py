import numpy as np
import pytest
import torch
from torch import nn

from bitleak.quantizers.network import layer_inputs as capture
from bitleak.quantizers.network.norm_statistics import moment_watchers, moments_of, reestimate


def network():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 4),
        nn.BatchNorm1d(4),
    ]
    for norm in (layers[1], layers[5]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("positions", [1 << 16, 75])
def test_each_batch_norm_gets_the_statistics_of_all_images_behind_those_before_it(
    positions, monkeypatch
):
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
    different = {
        name for name, value in changed.state_dict().items() if not torch.equal(value, before[name])
    }
    assert different == {
        f"{name}.running_{part}" for name in ("1", "5") for part in ("mean", "var")
    }
    assert not any(module.training for module in changed.modules())


def test_a_network_without_batch_norm_is_left_alone():
    assert reestimate(nn.Sequential(nn.Linear(2, 2)).eval(), torch.zeros(1, 2)) == []


def test_relative_statistics_change_nothing_where_the_weights_have_not_changed():
    before, changed = network(), network()
    images = 3 + torch.randn(50, 2, 5, 5)
    reestimate(changed, images, reference=moments_of(before, images))
    for name, value in changed.state_dict().items():
        torch.testing.assert_close(value, before.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("positions", [1 << 16, 75])
def test_relative_statistics_take_over_what_the_new_weights_change(positions, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", positions)
    full, changed = network(), network()
    full[1].running_mean.fill_(2.0)
    full[1].running_var.fill_(5.0)
    changed.load_state_dict(full.state_dict())
    with torch.no_grad():
        changed[0].weight.mul_(3.0)
        changed[0].bias.mul_(3.0)
    images = torch.randn(40, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    reestimate(changed, images, reference=moments_of(full, images))
    means = full[0](images).mean((0, 2, 3)).detach()
    torch.testing.assert_close(changed[1].running_mean, 2.0 + 2 * means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(changed[1].running_var, torch.full((3,), 45.0), rtol=1e-4, atol=1e-4)


def test_relative_statistics_stay_finite_where_a_channel_was_constant():
    full, changed = network(), network()
    with torch.no_grad():
        full[0].weight[1] = 0
    images = torch.randn(40, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    reestimate(changed, images, reference=moments_of(full, images))
    expected = 1 + changed[0](images)[:, 1].var()
    torch.testing.assert_close(changed[1].running_var[1], expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("records", "counted"), [(1, 3), (3, 3), (4, 6), (100, 11), (None, 11)])
def test_the_first_images_are_enough_where_so_many_are_asked_for(records, counted, monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 75)  # three records at a time
    images = torch.randn(11, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    for full in (None, network()):
        changed, other = network(), network()
        changed[0].weight.data.mul_(2.0)
        other[0].weight.data.mul_(2.0)
        reestimate(
            changed, images, reference=full and moments_of(full, images, records), records=records
        )
        reestimate(other, images[:counted], reference=full and moments_of(full, images[:counted]))
        for name, value in changed.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])


def test_a_pass_can_count_different_numbers_of_images_at_once(monkeypatch):
    monkeypatch.setattr(capture, "POSITIONS", 75)
    images = torch.randn(11, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    found = {2: {}, 5: {}, None: {}}
    capture.stream(network(), images, moment_watchers(network(), images, found))
    for records, moments in found.items():
        alone = moments_of(network(), images, records)
        assert moments.keys() == alone.keys() == {"1", "5"}
        for name, each in moments.items():
            assert all(
                np.array_equal(one, other) for one, other in zip(each, alone[name], strict=True)
            )
