"""Releases that are files of a runtime, and releases made by tools: of one target, tiers 0 and 1."""

import copy
from dataclasses import replace

import pytest
import torch
from onnx_networks import require_onnx
from torch import nn
from toy_target import CLASSES, DEVIATION, MEAN, SIZE, linear, toy

import bitleak
from bitleak.config import validate
from bitleak.core.errors import BitleakError, ConfigError, ModelError
from bitleak.core.types import ModelSpec
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.rtn import RoundToNearest

RIGHT = {"mean": MEAN, "deviation": DEVIATION}
SPEC = ModelSpec("toy", {}, CLASSES, 3, SIZE, MEAN, DEVIATION)


@pytest.fixture(scope="module")
def target():
    require_onnx()
    return toy()


def file_of(network, path, levels=4, spec=SPEC):
    """Writes the network's codes as a file, and returns the network that they stand for."""
    from bitleak.runtimes.onnx_export import export_network

    shown = torch.zeros(2, *spec.input_shape)
    codes = replace(RoundToNearest(levels=levels)(network, shown, torch.Generator()), spec=spec)
    plain = deployed(network, codes)
    path.write_bytes(export_network(plain, codes).content)
    return plain


def audited(target, **options):
    return bitleak.audit_model(
        options.pop("network", target.network),
        target.images,
        target.labels,
        target.members,
        **{"fpr": (0.05,), **RIGHT, **options},
    )


def figures(audit, variant):
    """All figures of attacks on one release, by attack, kind of references and metric."""
    rows = [row for row in audit.rows if row.variant == variant and row.target == "all"]
    return {
        (row.attack, row.reference, row.metric): row.measure.value for row in rows if row.attack
    }


def test_a_file_leaks_what_the_network_of_its_weights_leaks(target, tmp_path):
    plain = file_of(target.network, tmp_path / "int2.onnx")
    audit = audited(target, releases={"file": str(tmp_path / "int2.onnx"), "network": plain})
    ours, others = figures(audit, "file"), figures(audit, "network")
    assert ours.keys() == others.keys()
    for name, value in others.items():
        assert ours[name] == pytest.approx(value, abs=0.01), name
    assert ours["threshold", "", "auc"] != figures(audit, "fp32")["threshold", "", "auc"]

    # The file is counted: its one layer has 4 levels, float activations, and its bytes.
    sizes = {
        row.metric: row.measure.value
        for row in audit.rows
        if row.variant == "file" and not row.attack
    }
    assert sizes["bytes"] == (tmp_path / "int2.onnx").stat().st_size
    assert (sizes["levels_counted"], sizes["float_layers"]) == (4, 0)
    assert sizes["quantized_activations"] == 0


def test_the_target_itself_may_be_a_file(target, tmp_path):
    plain = file_of(target.network, tmp_path / "int8.onnx", levels=256)
    audit = audited(target, network=tmp_path / "int8.onnx")
    ours, others = figures(audit, "fp32"), figures(audited(target, network=plain), "fp32")
    assert ours["threshold", "", "auc"] == pytest.approx(others["threshold", "", "auc"], abs=1e-3)
    assert audit.facts.network == "int8.onnx"
    with pytest.raises(
        ConfigError, match=r"tier 1: untrained networks are needed, .* pass factory="
    ):
        audited(target, network=tmp_path / "int8.onnx", tier=1)
    with pytest.raises(ConfigError, match="the target is a FileNetwork; give the quantized model"):
        audited(target, network=tmp_path / "int8.onnx", releases={"four": RoundToNearest(levels=4)})


def of_pairs(target, sign=1.0):
    """The target's network with pairs of its classes as its two classes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2))
    with torch.no_grad():
        weight, bias = target.network[1].weight, target.network[1].bias
        network[1].weight.copy_(sign * weight.reshape(2, 2, -1).sum(1))
        network[1].bias.copy_(sign * bias.reshape(2, 2).sum(1))
    return network


@pytest.mark.parametrize("levels", [256, 3])
def test_a_file_of_two_classes_agrees_more_often_than_chance(target, tmp_path, levels):
    labelled = target._replace(labels=target.labels // 2)
    spec, path = replace(SPEC, classes=2), tmp_path / "pairs.onnx"
    file_of(of_pairs(target), path, levels, spec)
    audit = audited(labelled, network=of_pairs(target), releases={"file": path})
    assert audit.figure("train_accuracy", variant="file").value > 0.8
    # The opposite answers agree less often than chance.
    file_of(of_pairs(target, -1.0), path, levels, spec)
    with pytest.raises(ConfigError, match=r"agrees with the target on .* no more than chance"):
        audited(labelled, network=of_pairs(target), releases={"file": path})


def rounded(network, images, folder, *, steps=2):
    """Rounds all weights of linear layers to multiples of a step."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            step = module.weight.data.abs().max() / steps
            module.weight.data = (module.weight.data / step).round() * step
    return network


class TestReferences:
    """Tier 1: references are quantized as the release is only if its tool is named."""

    @pytest.fixture(scope="class")
    def audit(self, target, tmp_path_factory):
        path = tmp_path_factory.mktemp("files") / "int8.onnx"
        file_of(target.network, path, levels=5)
        releases = {
            "alone": path,
            "named": bitleak.ReleaseFile(path, tool=bitleak.ReleaseTool(rounded)),
            "tool": bitleak.ReleaseTool(rounded),
        }
        recipe = bitleak.Recipe(epochs=2, learning_rate=0.01, augment=())
        return audited(target, releases=releases, tier=1, references=3, recipe=recipe)

    def kinds(self, audit, variant):
        return {reference for _, reference, _ in figures(audit, variant)} - {""}

    def test_only_releases_with_a_tool_have_matched_references(self, audit):
        assert self.kinds(audit, "alone") == {"fp32", "recalibrated"}
        assert self.kinds(audit, "named") == {"fp32", "recalibrated", "matched"}
        assert self.kinds(audit, "tool") == {"fp32", "recalibrated", "matched"}

    def test_the_report_says_which_one_has_none(self, audit):
        summary = audit.summary()
        assert (
            "Note: alone: a file without the tool that made it, so its references are not quantized"
            in summary
        )
        assert "named: a file without" not in summary

    def test_matched_references_are_other_ones_than_those_in_full_precision(self, audit):
        named = figures(audit, "named")
        attack = "lira-offline-one_sided-fixed"
        assert named[attack, "matched", "auc"] != named[attack, "fp32", "auc"]

    def test_a_tools_network_is_counted(self, audit, target):
        sizes = {
            row.metric: row.measure.value
            for row in audit.rows
            if row.variant == "tool" and not row.attack
        }
        rows = rounded(copy.deepcopy(target.network), None, None)[1].weight.data
        assert sizes["levels_counted"] == max(len(row.unique()) for row in rows)
        assert sizes["float_layers"] == 0


class TestMistakes:
    def refused(self, target, release, pattern, **options):
        with pytest.raises(BitleakError, match=pattern):
            audited(target, releases={"int8": release}, **options)

    def test_no_such_file(self, target, tmp_path):
        self.refused(target, tmp_path / "gone.onnx", r"releases.int8: .*gone.onnx: no such file")

    def test_a_file_of_another_data_set(self, target, tmp_path):
        other = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 9))
        file_of(other, tmp_path / "other.onnx", spec=replace(SPEC, classes=9))
        self.refused(target, tmp_path / "other.onnx", r"releases.int8: .*9.*classes")

    def test_a_file_for_images_of_another_size(self, target, tmp_path):
        other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, CLASSES))
        file_of(other, tmp_path / "other.onnx", spec=replace(SPEC, size=6))
        self.refused(target, tmp_path / "other.onnx", r"releases.int8: .*6")

    def test_a_file_of_another_network(self, target, tmp_path):
        other = copy.deepcopy(target.network)
        other[1].weight.data, other[1].bias.data = (
            other[1].weight.data.roll(1, 0),
            other[1].bias.data.roll(1, 0),
        )
        file_of(other, tmp_path / "other.onnx")
        self.refused(
            target,
            tmp_path / "other.onnx",
            r"releases.int8: other.onnx agrees with the target on \d.* members, no more than chance",
        )

    def test_a_file_that_takes_pixels_from_0_to_1(self, target, tmp_path):
        # The standardisation is in the weights of the file.
        mean = torch.tensor(MEAN).repeat_interleave(SIZE * SIZE)
        deviation = torch.tensor(DEVIATION).repeat_interleave(SIZE * SIZE)
        other = linear()
        other.load_state_dict(target.network.state_dict())
        with torch.no_grad():
            other[1].bias -= other[1].weight @ (mean / deviation)
            other[1].weight /= deviation
        file_of(other, tmp_path / "unit.onnx", levels=256)
        pattern = (
            r"unit.onnx answers 150 members otherwise than the target, by \d.* "
            "write the runtime's option pixels: unit"
        )
        self.refused(target, tmp_path / "unit.onnx", pattern)
        release = bitleak.ReleaseFile(tmp_path / "unit.onnx", runtime={"pixels": "unit"})
        audit = audited(target, releases={"int8": release})
        assert audit.figure("train_accuracy", variant="int8").value > 0.9

    def test_an_option_that_no_runtime_has(self, target, tmp_path):
        file_of(target.network, tmp_path / "net.onnx")
        release = bitleak.ReleaseFile(tmp_path / "net.onnx", runtime={"optimization": "none"})
        self.refused(target, release, r"releases.int8: runtime onnx: unknown option 'optimization'")

    def test_a_tool_that_is_not_known(self, target):
        self.refused(target, bitleak.ReleaseTool("onnxrt"), "unknown tool 'onnxrt'")

    def test_a_tool_that_returns_nothing(self, target):
        tool = bitleak.ReleaseTool(lambda network, images, folder: None)
        self.refused(target, tool, "returned nothing; expected the path of a file")

    def test_a_tool_whose_file_has_another_number_of_outputs(self, target):
        def more_outputs(network, images, folder):
            other = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 9))
            file_of(other, folder / "net.onnx", spec=replace(SPEC, classes=9))
            return folder / "net.onnx"

        self.refused(target, bitleak.ReleaseTool(more_outputs), r"9.*classes")

    def test_a_tool_that_changes_the_answers_and_quantizes_nothing(self, target):
        def scaled(network, images, folder):
            network[1].weight.data *= 1.1
            return network

        self.refused(
            target,
            bitleak.ReleaseTool(scaled),
            r"tool 'scaled' left all layers in full precision \(1\)",
        )

    def test_a_tool_that_fails(self, target):
        def failing(network, images, folder):
            raise RuntimeError("no such backend")

        self.refused(
            target,
            bitleak.ReleaseTool(failing),
            "tool 'failing' failed: RuntimeError: no such backend",
        )

    def test_an_option_that_the_tool_does_not_have(self, target):
        tool = bitleak.ReleaseTool("onnxruntime", options={"per_chanel": True})
        self.refused(target, tool, "tool 'onnxruntime' failed: TypeError: .*per_chanel")

    def test_a_text_file_with_the_suffix_of_a_runtime(self, target, tmp_path):
        (tmp_path / "net.onnx").write_text("weights")
        self.refused(target, tmp_path / "net.onnx", "releases.int8: .*net.onnx: not an ONNX file")

    def test_weights_of_a_kind_that_is_not_known(self, target, tmp_path):
        (tmp_path / "net.engine").write_bytes(b"engine")
        with pytest.raises(ModelError, match=r"net[.]engine"):
            audited(target, releases={"int8": tmp_path / "net.engine"})


RAW = {
    "data": "digits",
    "split": {"shadows": 6, "population": 100},
    "model": {"name": "cnn", "width": 4},
    "attacks": ["lira"],
}
TARGET = {"weights": "net.pt", "members": "members.npy"}


def test_files_and_tools_of_a_config_are_read_and_written():
    tool = {"call": "onnxruntime", "options": {"per_channel": False}}
    releases = {
        "int8": "int8.onnx",
        "named": {"file": "int8.onnx", "runtime": {"optimisation": "none"}, "tool": tool},
        "made": {
            "name": "tool",
            "call": "export",
            "options": {"quantizer": "obc", "levels": 4},
        },
        "weights": "int8.pt",
    }
    entry = {"name": "file", "file": "other.onnx", "label": "other"}
    config = validate({**RAW, "quantize": [entry], "target": {**TARGET, "releases": releases}})
    section = config.target.releases
    assert section["weights"] == "int8.pt"
    assert (section["int8"].name, section["int8"].variant) == ("file", "int8")
    assert not section["int8"].has_matched_references
    assert section["named"].tool.options == {"per_channel": False}
    assert config.quantize[0].variant == "other"
    from bitleak.config import resolved

    again = validate(resolved(config))
    assert (again.quantize, again.target) == (config.quantize, config.target)


@pytest.mark.parametrize(
    ("release", "message"),
    [
        (
            {"file": "net.engine"},
            "target.releases.a.file: expected a file that a runtime executes (.onnx",
        ),
        ({"file": ""}, "target.releases.a.file must be a path, got an empty text"),
        (
            {"file": "a.onnx", "tool": "onnxrt"},
            "target.releases.a.tool.call: unknown tool 'onnxrt'",
        ),
        ({"file": "a.onnx", "levels": 4}, "target.releases.a.levels: unknown key 'levels'"),
        (7, "target.releases.a: expected a file, a quantizer such as"),
    ],
)
def test_mistakes_in_the_releases_of_a_config(release, message):
    with pytest.raises(ConfigError) as error:
        validate({**RAW, "target": {**TARGET, "releases": {"a": release}}})
    assert message in str(error.value)


def test_a_file_cannot_be_a_variant_of_models_that_the_audit_trains():
    with pytest.raises(
        ConfigError, match=r"quantize.0: a.onnx is a file of one network, and this audit trains"
    ):
        validate({**RAW, "quantize": [{"name": "file", "file": "a.onnx"}]})
