"""An audit whose answers come through channels: what is planned, the rows, and the report."""

from collections import Counter

import pytest

from bitleak.audit import audit, prepare
from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError
from bitleak.core.metric_names import AUC
from bitleak.core.variants import Variant, question_of
from bitleak.engine.store import Store
from bitleak.report.channel_measures import channel_measures
from bitleak.report.results_table import tabulate
from bitleak.report.row_files import read_rows
from bitleak.report.sections.interface_section import interface_section
from bitleak.report.summary import read_summary

ATTACKS = ["lira-online-shrunk", "threshold"]
RAW = {
    "data": {"name": "digits", "limit": 240},
    "split": {"models": 8, "targets": 2, "population": 20},
    "model": {"name": "cnn", "width": 4},
    "train": {"epochs": 6, "augment": []},
    "calibration": {"records": 32},
    "quantize": [{"name": "rtn", "levels": [16, 3]}],
    "attacks": [*ATTACKS, "gap"],
    "references": ["fp32", "matched"],
    "query": {"augment": ["identity"], "keep": "logits"},
    "fpr": [0.1],
    "power": False,
}
CHANNELS = {
    "names": ["logits", "label", "temperature-2", "round-2"],
    "variants": ["fp32", "rtn-1.58"],
    "attacks": ATTACKS,
}


def planned(**changes):
    return prepare(validate({**RAW, **changes}), device="cpu").plan


def test_nothing_that_was_planned_before_has_another_key():
    plain, more = planned(), planned(channels=CHANNELS)
    assert {task.key for task in plain.tasks} < {task.key for task in more.tasks}
    assert more.results[: len(plain.results)] == plain.results
    added = Counter(task.stage for task in more.tasks)
    added.subtract(Counter(task.stage for task in plain.tasks))
    # 2 variants, 3 channels that hide something, 2 adversaries; rows of logits twice
    assert added["channel"] == added["compare"] == 12
    assert added["measure"] == 14
    # nothing more is trained, quantized or asked
    assert {stage for stage, count in added.items() if count} == {
        "attack", "channel", "compare", "estimate", "measure",
    }  # fmt: skip


def test_attacks_on_logits_are_those_of_the_audit_where_the_config_names_them_alike():
    more = planned(channels={**CHANNELS, "attacks": RAW["attacks"]})
    stages = Counter(task.stage for task in more.tasks)
    usual = Counter(task.stage for task in planned().tasks)
    assert (stages["attack"], stages["estimate"]) == (usual["attack"], usual["estimate"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ["labels"]}, "channels: unknown channel 'labels': did you mean 'label'"),
        ({"channels": []}, "channels: expected at least one of logits"),
        ({"channels": "label"}, r"expected a list of channels such as .*, got str 'label'"),
        ({"channels": ["label", "label"]}, "channels: label is there twice"),
        ({"channels": {"variants": ["fp32"]}}, r"channels\.names: missing"),
        ({"channels": {"names": ["label"], "variant": []}}, r"unknown key 'variant': did you mean"),
        (
            {"channels": {"names": ["label"], "variants": ["rtn-2"]}},
            r"channels\.variants: unknown variant 'rtn-2': did you mean 'rtn-4'",
        ),
        (
            {"channels": {"names": ["label"], "attacks": ["lirra"]}},
            r"channels\.attacks: unknown attack 'lirra': did you mean 'lira'",
        ),
        (
            {"channels": {"names": ["label"], "attacks": ["quantile"]}},
            r"channels\.attacks: the attack quantile needs at least 50 population records, got 20",
        ),
        (
            {"channels": ["label"], "query": {"augment": ["identity"]}},
            r"channels: .* logits, which are not kept; add query: \{keep: logits\}",
        ),
    ],
)
def test_a_wrong_section_is_refused_with_what_to_write(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate({**RAW, **changes})


def test_the_resolved_config_reads_as_the_same():
    for channels in (CHANNELS, ["label"], True):
        config = validate({**RAW, "channels": channels})
        assert validate(resolved(config)) == config
    assert config.channels.variants == ("fp32", "rtn-4", "rtn-1.58")
    assert len(config.channels.names) == 6
    assert "channels" not in resolved(validate(RAW))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, undrawn, unchecked):
    folder = tmp_path_factory.mktemp("channels")
    prepared = prepare(validate({**RAW, "channels": CHANNELS}), device="cpu")
    with undrawn(), unchecked():
        report = audit(
            prepared, out=folder, store=Store(folder / "store"), executor="serial", workers=1
        )
    assert not report.failed
    return folder, read_rows(folder)


def measures(rows, variant, attack, reference):
    found = {
        (row.metric, row.target): row.measure
        for row in rows
        if (row.variant, row.attack, row.reference) == (variant, attack, reference)
    }
    assert found, (variant, attack, reference)
    return found


@pytest.mark.parametrize(
    ("variant", "attack", "reference"),
    [
        ("fp32", "lira-online-shrunk", "fp32"),
        ("fp32", "threshold", ""),
        ("rtn-1.58", "lira-online-shrunk", "matched"),
        ("rtn-1.58", "threshold", ""),
    ],
)
def test_rows_of_logits_are_the_ordinary_rows(finished, variant, attack, reference):
    usual = measures(finished[1], variant, attack, reference)
    for key, measure in measures(finished[1], f"logits@{variant}", attack, reference).items():
        if key[0] != "epsilon":  # corrected for another number of attacks
            assert (measure.value, measure.low, measure.high, measure.std) == (
                usual[key].value, usual[key].low, usual[key].high, usual[key].std,
            )  # fmt: skip


def test_a_temperature_hides_nothing_from_references_that_adapt(finished):
    rows = finished[1]
    for variant, kind in (("fp32", "fp32"), ("rtn-1.58", "matched")):
        usual = measures(rows, variant, "lira-online-shrunk", kind)
        found = measures(rows, f"temperature-2@{variant}", "lira-online-shrunk", kind)
        assert found["auc", "all"].value == usual["auc", "all"].value
        assert found["auc_over_logits", "all"].value == 0
        assert found["auc_over_logits", "all"].verdict == "not distinguishable"


def test_labels_have_the_rows_of_the_attack_on_labels(finished):
    rows = finished[1]
    for variant in ("fp32", "rtn-1.58"):
        usual = measures(rows, variant, "threshold-correct", "")
        found = measures(rows, f"label@{variant}", "threshold", "")
        for key in (("auc", "all"), ("auc", "0"), ("tpr@0.1", "all"), ("balanced_accuracy", "2")):
            assert (found[key].value, found[key].low) == (usual[key].value, usual[key].low)


def test_differences_from_logits_are_those_of_both_rows(finished):
    rows = finished[1]
    usual = measures(rows, "rtn-1.58", "lira-online-shrunk", "matched")
    for reference in ("matched", "unadapted:matched"):
        for channel in ("label", "round-2"):
            found = measures(rows, f"{channel}@rtn-1.58", "lira-online-shrunk", reference)
            for target in ("all", "0", "2"):
                expected = found["auc", target].value - usual["auc", target].value
                assert found["auc_over_logits", target].value == pytest.approx(expected, abs=1e-12)


def test_rows_are_unique_and_their_families_are_their_own(finished):
    rows = finished[1]
    keys = [(row.variant, row.attack, row.reference, row.target, row.metric) for row in rows]
    assert len(set(keys)) == len(keys)
    through = [row for row in rows if question_of(row.variant, row.attack) == "channel"]
    assert {Variant.parse(row.variant).channel for row in through} == set(CHANNELS["names"])
    assert {row.measure.family.partition("/")[0] for row in through} == {"channel", ""}
    # the threshold uses no references, so that none of them can adapt
    assert {row.reference for row in through if row.attack == "threshold"} == {""}
    assert not [row for row in rows if row not in through and "channel/" in row.measure.family]


def test_the_page_has_the_section(finished):
    folder, rows = finished
    table, summary = tabulate(rows), read_summary(folder)
    assert [str(variant) for variant in table.quantized] == ["rtn-4", "rtn-1.58"]
    section = interface_section(table, summary)
    lines = dict(section.tables[0].lines)
    assert list(lines)[:4] == [f"{name} of fp32" for name in CHANNELS["names"]]
    shown = channel_measures(table, summary).find("fp32", "label", AUC)
    assert lines["label of fp32"][0].main == f"{shown.value:.3f}"
    page = (folder / "report.html").read_text()
    assert "What the interface gives away" in page
