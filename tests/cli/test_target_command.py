"""`bitleak audit CONFIG --tier 0`: a checkpoint as real code saves it, a list of members, a report."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from onnx_networks import require_onnx
from target_config import target_of
from toy_target import CLASSES, DEVIATION, MEAN, SIZE, toy

from bitleak.core.types import ModelSpec
from bitleak.quantizers.assembly import deployed
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.report import read_summary


@pytest.fixture
def config(tmp_path, monkeypatch, undrawn, unchecked):
    """A target with its data, in the folder of the command; its reports have no figures."""
    with undrawn(), unchecked():
        yield target_of(tmp_path, monkeypatch)


def test_a_checkpoint_is_audited_beside_its_releases(bitleak, config, tmp_path):
    code, out, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 0, err
    assert "Tier 0: one target, nothing was trained." in out
    assert "the state dict is read from 'model.state_dict'" in out.replace("\n", " ")
    assert "the prefix 'module._orig_mod.' was removed" in out.replace("\n", " ")
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    areas = table[(table.metric == "auc") & (table.attack == "threshold") & (table.target == "all")]
    figures = dict(zip(areas.variant, areas.value, strict=True))
    assert set(figures) == {"fp32", "again", "coarse", "control"}
    assert figures["fp32"] == figures["again"] > 0.65
    assert set(areas.about) == {"records"}
    blind = table[(table.attack == "blind") & (table.metric == "auc")]
    assert blind.value.between(0.4, 0.6).all()


def test_a_wrong_mean_ends_the_audit_with_the_right_spelling(bitleak, config, tmp_path):
    config["target"]["channels"] = "bgr"
    code, _, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 2
    assert "target.mean, deviation, scale: the target is right on" in err
    assert "write mean: [0.5, 0.4, 0.6], deviation: [0.1, 0.2, 0.15] in the target section" in err
    assert not list((tmp_path / "audits" / "config").glob("*"))


def test_a_tier_without_a_target_is_refused(bitleak, config):
    del config["target"]
    code, _, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 2
    assert "--tier: the config has no section target" in err


def test_every_mistake_of_the_section_is_reported_at_once(bitleak, config):
    config["data"]["limit"] = 400
    config["target"] |= {"deviation": 0, "releases": {"x": 3}, "wieghts": "a"}
    code, _, err = bitleak("audit", "config.yaml", config=config)
    assert code == 2
    assert "target.wieghts: unknown key 'wieghts': did you mean 'weights'?" in err
    assert "data.limit: a target's members are numbered among all records" in err


def test_members_and_others_that_differ_by_themselves_are_not_evaluable(bitleak, config, tmp_path):
    # Pixels of the others are darker by a third of their deviation.
    stored = dict(np.load(tmp_path / "toy.npz"))
    member = np.load(tmp_path / "members.npy")
    pixels = stored["pixels"].astype(int) - 6 * ~member[:, None, None, None]
    np.savez(
        tmp_path / "toy.npz", pixels=pixels.clip(0, 255).astype(np.uint8), labels=stored["labels"]
    )
    code, out, _ = bitleak("audit", "config.yaml", config=config)
    assert code == 0
    assert "NOT EVALUABLE: members and others differ by themselves" in out
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    assert set(table.attack.fillna("")) == {"blind", ""}
    config["target"]["allow_separable"] = True
    code, out, _ = bitleak("audit", "config.yaml", config=config)
    assert code == 0
    assert "count that difference as leakage" in out
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    assert "threshold" in set(table.attack)


POPULATION = {
    "split": {"shadows": 6, "population": 100},
    "train": {"epochs": 3, "learning_rate": 0.01, "augment": []},
    "calibration": {"records": 64},
    "attacks": ["lira-online-fixed", "lira-offline-one_sided-fixed", "threshold"],
    "power": False,
}


@pytest.mark.usefixtures("without_new_process")
def test_a_population_is_trained_around_the_given_target(bitleak, config, tmp_path):
    config |= POPULATION
    config["target"]["releases"] = {
        "coarse": {"name": "rtn", "levels": 3},
        "shipped": shipped(tmp_path),
    }
    call = ("audit", "config.yaml", "--tier", 2, "--executor", "serial")
    code, out, err = bitleak(*call, config=config)
    assert code == 0, err
    assert "Tier 2: one target among shadow models trained by the given recipe" in out
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    # The given weights, and not trained ones, are the target: least squares fits all members.
    full = table[(table.variant == "fp32") & (table.target == "all")]
    assert full[full.metric == "train_accuracy"].value.item() == 1.0
    areas = full[(full.metric == "auc") & full.reference.isin(["fp32"])]
    assert areas.value.max() > 0.6
    assert set(table.about.dropna()) == {"records"}
    assert set(table[table.variant == "coarse-1.58"].reference.dropna()) >= {
        "fp32",
        "matched",
        "recalibrated",
    }
    # The file is the target's alone, so no reference is quantized as it is.
    file = table[(table.variant == "shipped") & (table.target == "all")]
    assert set(file.reference.dropna()) == {"fp32", "recalibrated"}
    sizes = dict(zip(file.metric, file.value, strict=True))
    assert sizes["bytes"] == (tmp_path / "shipped.onnx").stat().st_size
    assert sizes["levels_counted"] == 4
    (summary,) = read_summary(tmp_path / "audits" / "config").files
    assert (summary.name, summary.bytes, summary.arithmetic) == (
        "shipped",
        sizes["bytes"],
        "float32",
    )
    # The codes take 2 bits each, as they are counted and as they are stored.
    assert summary.coded_bytes == summary.layer_bytes == 4 * 3 * SIZE * SIZE // 4 + 4 * 5
    control = table[
        (table.variant == "control") & (table.metric == "auc") & (table.target == "all")
    ]
    assert control.value.between(0.35, 0.65).all()

    # The target's task is in the store, under the digest of the weights.
    code, out, err = bitleak("plan", "config.yaml")
    assert code == 0
    assert target_line(out) == ["target", "0", "1"]
    torch.save(torch.load(tmp_path / "model.pt")["model"], tmp_path / "model.pt")
    code, out, err = bitleak("plan", "config.yaml")
    assert target_line(out) == ["target", "1", "0"]


def shipped(folder):
    """Writes the toy's codes of 4 levels as a file, and returns its name."""
    require_onnx()
    from bitleak.runtimes.onnx_export import export_network

    spec = ModelSpec("toy", {}, CLASSES, 3, SIZE, MEAN, DEVIATION)
    network = toy().network.eval()
    codes = RoundToNearest(levels=4)(network, torch.zeros(2, 3, SIZE, SIZE), torch.Generator())
    codes = replace(codes, spec=spec)
    (folder / "shipped.onnx").write_bytes(export_network(deployed(network, codes), codes).content)
    return "shipped.onnx"


def target_line(out):
    """The stage `target` of a plan: to do, and cached."""
    return next(line.split()[:3] for line in out.splitlines() if line.split()[:1] == ["target"])


def test_tier_2_refuses_what_shadows_cannot_share(bitleak, config, tmp_path):
    config |= POPULATION
    config["split"] = {"shadows": 6, "population": 640}
    code, _, err = bitleak("audit", "config.yaml", "--tier", 2, config=config)
    assert code == 2
    assert "leave -55 of 650 known non-members to be evaluated" in err
    config["target"]["channels"] = "bgr"
    code, _, err = bitleak("audit", "config.yaml", "--tier", 2, config=config)
    assert code == 2
    assert "target.channels, layout: tier 2 trains shadows on the images as they are stored" in err


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"shadows": 7}, "split.shadows must be even"),
        ({"models": 20}, "split.models: is for audits that train their targets"),
        ({"held_out": 0.5}, "split.held_out: is for audits that train their targets"),
    ],
)
def test_counts_of_models_that_a_population_does_not_have_are_refused(
    bitleak, config, split, message
):
    config["split"] = split
    code, _, err = bitleak("audit", "config.yaml", "--tier", 2, config=config)
    assert code == 2
    assert message in err


def test_weights_of_another_network_are_refused_before_the_population_is_trained(
    bitleak, config, tmp_path
):
    torch.save({"1.weight": torch.zeros(2, 2)}, tmp_path / "small.pt")
    config["target"]["releases"] = {"small": "small.pt"}
    code, _, err = bitleak("audit", "config.yaml", "--tier", 2, config=config | POPULATION)
    assert code == 2
    assert "target.releases.small: weights of another network: 0 of the network's 2 tensors" in err
    assert not list(tmp_path.rglob("manifest.json"))


def test_numbers_that_count_from_1_are_refused_before_the_population_is_trained(
    bitleak, config, tmp_path
):
    numbers = np.flatnonzero(np.load(tmp_path / "members.npy")) + 1
    config["target"]["members"] = numbers.tolist()
    for tier in (1, 2):
        code, _, err = bitleak("audit", "config.yaml", "--tier", tier, config=config | POPULATION)
        assert code == 2
        assert "target.members: do the numbers count from 1?" in err
    assert not list(tmp_path.rglob("manifest.json"))


def test_the_given_mean_is_proposed_in_the_units_that_fit(bitleak, config):
    config["target"] |= {
        name: [255 * v for v in config["target"][name]] for name in ("mean", "deviation")
    }
    code, _, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 2
    assert "with the given mean and deviation, for pixels from 0 to 255" in err
    assert "scale: 255 in the target section" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mine", "save the weights alone: torch.save(torch.load('odd.pt')['mine'], 'weights.pt')"),
        ("text", "odd.pt: not a file of torch.save, or damaged\n"),
        ("folder", "odd.pt: is a folder; give a .safetensors or .pt file"),
    ],
)
def test_checkpoints_of_other_forms_are_refused_with_the_way_out(
    bitleak, config, tmp_path, content, message
):
    path = tmp_path / "odd.pt"
    if content == "mine":
        torch.save({"mine": toy().network.state_dict()}, path)
    elif content == "text":
        path.write_text("hello")
    else:
        path.mkdir()
    config["target"]["weights"] = "odd.pt"
    code, _, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 2
    assert message in err


def test_a_second_state_dict_of_a_checkpoint_is_named(bitleak, config, tmp_path):
    tensors = toy().network.state_dict()
    torch.save({"model": tensors, "ema": tensors}, tmp_path / "model.pt")
    code, out, err = bitleak("audit", "config.yaml", "--tier", 0, config=config)
    assert code == 0, err
    assert "the state dict is read from 'model'; 'ema' not read" in out.replace("\n", " ")


def test_the_plan_of_a_target_is_that_of_its_population(bitleak, config):
    code, out, err = bitleak("plan", "config.yaml", config=config | POPULATION)
    assert code == 0, err
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines["train"][1] == "6"
    assert lines["target"][1] == "1"


REFERENCES = {
    "train": {"learning_rate": 0.02, "batch": 64, "augment": []},
    "fpr": [0.1],
}


@pytest.mark.usefixtures("without_new_process")
def test_references_are_tasks_that_are_planned_and_go_on(bitleak, config, tmp_path):
    """The target takes channels in the order BGR, and its checkpoint says the number of epochs."""
    weights = torch.load(tmp_path / "model.pt")
    name = "module._orig_mod.1.weight"
    tensors = weights["model"]["state_dict"]
    turned = tensors[name].view(4, 3, -1).flip(1).reshape(4, -1)
    tensors[name] = turned.contiguous()
    torch.save(weights, tmp_path / "model.pt")
    config |= REFERENCES
    config["target"] |= {"references": 3, "imitated": True, "channels": "bgr"}
    for key in ("mean", "deviation"):
        config["target"][key] = config["target"][key][::-1]
    code, out, err = bitleak("plan", "config.yaml", "--tier", 1, config=config)
    assert code == 0, err
    assert stages(out) == {
        "images": ["1", "0"], "orient": ["1", "0"], "outsiders": ["1", "0"], "imitated": ["1", "0"],
        "train": ["3", "0"], "imitate": ["3", "0"], "quantize": ["3", "0"], "query": ["6", "0"],
    }  # fmt: skip
    assert "expected: " in out

    # No time is left for anything, then for all that remains; then nothing is left to do.
    call = ("audit", "config.yaml", "--tier", 1, "--executor", "serial")
    code, out, _ = bitleak(*call, "--budget", "0.001s")
    assert code == 3
    assert "the same command goes on from here" in out
    code, out, err = bitleak(*call)
    assert code == 0, err
    flat = " ".join(out.split())
    assert "Tier 1: one target, and a few references" in flat
    assert (
        "from the checkpoint epochs 9 (epoch); from the config augment, batch, learning_rate;"
        in flat
    )
    results = tmp_path / "audits" / "config" / "results.csv"
    first = results.read_bytes()
    table = pandas.read_csv(results)
    kinds = table[(table.metric == "auc") & (table.attack == "reference") & (table.target == "all")]
    pairs = set(zip(kinds.variant, kinds.reference, strict=True))
    assert {("again", "fp32"), ("coarse", "matched"), ("coarse", "recalibrated")} <= pairs
    # The first line of the plan counts what is in the store.
    code, out, _ = bitleak("plan", "config.yaml", "--tier", 1)
    assert {left for left, _ in stages(out).values()} == {"0"}
    assert bitleak(*call)[0] == 0
    assert results.read_bytes() == first


def stages(out):
    """Numbers of tasks to do and done, by the stages of a plan."""
    lines = [line.split() for line in out.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 3 and line[1].isdigit()}


def test_weights_are_a_release_of_tier_2(bitleak, config, tmp_path):
    """A release with the target's own weights has its figures, by references at full precision."""
    config |= POPULATION
    del config["target"]["releases"]["coarse"]
    code, _, err = bitleak(
        "audit", "config.yaml", "--tier", 2, "--executor", "serial", config=config
    )
    assert code == 0, err
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    areas = table[(table.metric == "auc") & (table.target == "all") & table.attack.ne("strongest")]
    figures = areas.set_index(["variant", "attack", areas.reference.fillna("")]).value
    assert figures["again"].to_dict() == figures["fp32"].to_dict()
    assert len(figures["again"]) == 5
    # Full precision, which others are compared with, is attacked by references as they are.
    plain = areas[(areas.variant == "again") & (areas.reference != "recalibrated")]
    assert set(plain.difference.dropna()) == {0.0}


def file_target(config, folder):
    """Makes the toy's codes, as a file, the target, and leaves the network out of the config."""
    target = {"weights": shipped(folder), "members": "members.npy"}
    return {**{key: config[key] for key in ("data", "query", "fpr")}, "target": target}


def test_a_file_is_the_target_of_tier_0(bitleak, config, tmp_path):
    """Its figures are those of the network of its codes, standardised as the file states it."""
    network = toy().network.eval()
    codes = RoundToNearest(levels=4)(network, torch.zeros(2, 3, SIZE, SIZE), torch.Generator())
    torch.save(deployed(network, codes).state_dict(), tmp_path / "plain.pt")
    plain = {**config, "target": {**config["target"], "weights": "plain.pt", "releases": {}}}
    assert bitleak("audit", "config.yaml", config=plain)[0] == 0
    results = tmp_path / "audits" / "config" / "results.csv"
    expected = _figures(results)
    code, out, err = bitleak("audit", "config.yaml", config=file_target(config, tmp_path))
    assert code == 0, err
    flat = " ".join(out.split())
    assert "shipped.onnx states its standardisation: mean: [0.5, 0.4, 0.6]" in flat
    assert "shipped.onnx is answered by onnxruntime" in flat
    figures = _figures(results)
    assert figures.pop("bytes") == (tmp_path / "shipped.onnx").stat().st_size
    assert figures.pop("levels_counted") == 4
    assert figures["auc"] > 0.6
    (file,) = read_summary(results.parent).files
    assert (file.name, file.bytes, file.levels) == (
        "fp32",
        (tmp_path / "shipped.onnx").stat().st_size,
        4,
    )
    assert (file.arithmetic, file.optimisation, file.float_layers) == ("float32", "all", ())
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-3), name


def _figures(path):
    """Figures of full precision by metric: of the attack `threshold`, and of no attack."""
    table = pandas.read_csv(path)
    rows = table[(table.variant == "fp32") & (table.target == "all")]
    rows = rows[rows.attack.isna() | (rows.attack == "threshold")]
    return dict(zip(rows.metric, rows.value, strict=True))


@pytest.mark.usefixtures("without_new_process")
def test_references_of_a_file_are_trained_by_the_sections_of_its_network(bitleak, config, tmp_path):
    raw = file_target(config, tmp_path)
    raw |= {"model": config["model"], **REFERENCES, "train": {**REFERENCES["train"], "epochs": 3}}
    raw["target"]["references"] = 2
    call = ("audit", "config.yaml", "--tier", 1, "--executor", "serial")
    code, _, err = bitleak(*call, config=raw)
    assert code == 0, err
    table = pandas.read_csv(tmp_path / "audits" / "config" / "results.csv")
    rows = table[(table.metric == "auc") & (table.attack == "reference") & (table.target == "all")]
    assert set(rows[rows.variant == "fp32"].reference) == {"fp32", "recalibrated"}


@pytest.mark.parametrize(
    ("tier", "target", "message"),
    [
        (2, {}, "tier 2 compares the target with networks that are trained and asked as it is: give"),
        (1, {}, "tier 1 trains references, which takes its network: add the sections model and"),
        (0, {"releases": {"x": {"name": "rtn", "levels": 4}}}, "target.releases.x: shipped.onnx is a"),
        (0, {"releases": {"x": "model.pt"}}, "which cannot be quantized or take other weights: give"),
        (0, {"runtime": {"pixel": "unit"}}, "unknown option 'pixel': did you mean 'pixels'?"),
        (0, {"weights": "gone.onnx"}, "target.weights: gone.onnx: no such file"),
        (0, {"weights": "model.pt", "runtime": {"batch": 1}}, "target.runtime is for weights that a"),
    ],
)  # fmt: skip
def test_a_file_as_target_is_refused_before_work(bitleak, config, tmp_path, tier, target, message):
    raw = file_target(config, tmp_path)
    raw["target"] |= target
    if "model.pt" in target.values():
        raw["model"] = config["model"]
    code, _, err = bitleak("audit", "config.yaml", "--tier", tier, config=raw)
    assert code == 2
    assert message in " ".join(err.split())
