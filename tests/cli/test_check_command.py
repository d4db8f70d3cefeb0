"""`bitleak check` and `bitleak compare` on the tables that an audit leaves."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from bitleak.core.release_limits import ReleaseLimits
from bitleak.core.types import Measure, Row
from bitleak.report import Summary, read_rows, write_rows
from bitleak.report.summary import read_summary, write_summary

ADVERSARY = ("--adversary", "threshold")


@pytest.fixture
def run(tmp_path):
    """A run with three variants: of little, of much and of unclear leakage at a limit of 0.6."""
    rows = []
    for name, area in {"fp32": 0.7, "rtn-1.58": 0.55, "rtn-4": 0.65, "rtn-2": 0.6}.items():
        levels = None if name == "fp32" else 4
        change = {} if name == "fp32" else {"difference": area - 0.7, "difference_low": area - 0.72,
                                            "difference_high": area - 0.68}  # fmt: skip
        measure = Measure(area, low=area - 0.02, high=area + 0.02, about="records", **change)
        rows.append(
            Row(name, "rtn" if levels else "", levels, "threshold", "", "all", "auc", measure)
        )
    folder = tmp_path / "run"
    folder.mkdir()
    write_rows(rows, folder)
    write_summary(
        Summary(
            title="gate", dataset="made up", records=2000, members=1000, non_members=1000,
            population_records=0, test_records=500, classes=2, models=1, mode="population",
            targets=1, references=0, network="cnn", parameters=1, training="", calibration="",
            calibration_records=0, fprs=(0.01,), headline_attack="threshold",
            headline_reference="", headline_fpr=0.01, expected_false_positives=10.0, presets=(),
            queries=1, interval="", versions={}, machine="", seeds={}, variants=(),
        ),
        folder,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("variants", "code", "outcome"),
    [
        (["rtn-1.58"], 0, "pass"),
        (["rtn-4"], 5, "fail"),
        (["rtn-2"], 6, "inconclusive"),
        (["rtn-1.58", "rtn-2"], 6, "inconclusive"),
        ([], 5, "fail"),
    ],
)
def test_the_exit_code_tells_the_outcome(bitleak, run, variants, code, outcome):
    options = [part for name in variants for part in ("--variant", name)]
    found_code, out, err = bitleak("check", run, "--max", "auc=0.6", *ADVERSARY, *options)
    assert (found_code, err) == (code, "")
    assert out.splitlines()[-1].startswith(f"{outcome}: ")


def test_a_variant_without_its_figure_is_not_evaluable_and_ends_with_7(bitleak, run):
    limits = ("--no-worse-than", "fp32", "--margin", "auc=0.01")
    code, out, _ = bitleak("check", run, *limits, *ADVERSARY, "--variant", "fp32")
    assert code == 7
    assert "was not compared with full precision" in out


def test_a_margin_is_about_the_change_from_full_precision(bitleak, run):
    limits = ("--no-worse-than", "fp32", "--margin", "auc=0.01")
    assert bitleak("check", run, *limits, *ADVERSARY)[0] == 0


def with_limits(run, **limits):
    """Write limits into the run's summary, where an audit keeps those of its config."""
    write_summary(replace(read_summary(run), limits=ReleaseLimits(**limits)), run)


def test_limits_of_the_config_are_tested_if_none_are_given(bitleak, run):
    with_limits(run, max={"auc": 0.6}, adversary="threshold")
    code, out, err = bitleak("check", run, "--variant", "rtn-1.58")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "pass: 1 pass (auc <= 0.6; adversary threshold)"


def test_limits_that_are_given_stand_in_the_place_of_those_of_the_config(bitleak, run):
    with_limits(run, max={"auc": 0.6}, adversary="threshold")
    code, out, _ = bitleak("check", run, "--max", "auc=0.5", "--variant", "rtn-1.58", *ADVERSARY)
    assert code == 5
    assert "auc <= 0.6" not in out
    # the adversary of the config belongs to its limits
    assert bitleak("check", run, "--max", "auc=0.6")[0] == 2


@pytest.mark.parametrize("form", ["json", "junit", "markdown", "text"])
def test_every_format_goes_to_the_terminal_or_to_a_file(bitleak, run, tmp_path, form):
    arguments = ("check", run, "--max", "auc=0.6", *ADVERSARY, "--format", form)
    code, shown, _ = bitleak(*arguments)
    assert code == 5
    code, text, _ = bitleak(*arguments, "--out", tmp_path / "outcome")
    written = (tmp_path / "outcome").read_text()
    assert code == 5
    assert written.rstrip("\n") == shown.rstrip("\n")
    assert text.splitlines()[-1].startswith("fail: 1 pass, 1 fail, 1 inconclusive")
    if form == "json":
        assert json.loads(written)["outcome"] == "fail"
    if form == "junit":
        assert ElementTree.fromstring(written).get("failures") == "1"


JUNIT = {  # elements and attributes of junit-10.xsd of Jenkins' xUnit plugin, as far as they are used
    "testsuites": ({"testsuite"}, {"tests", "failures", "errors"}, set()),
    "testsuite": (
        {"properties", "testcase"},
        {"name", "tests", "failures", "errors"},
        {"name", "tests", "failures", "errors"},
    ),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, {"name", "value"}),
    "testcase": ({"error", "failure", "system-out"}, {"name", "classname"}, {"name"}),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}


@pytest.mark.parametrize(
    ("options", "outcome", "guessing"),
    [
        (("--max", "auc=0.6", "--variant", "rtn-1.58"), "pass", "not met"),
        (("--max", "auc=0.6", "--variant", "rtn-4"), "fail", "not met"),
        (("--max", "auc=0.6", "--variant", "rtn-2"), "inconclusive", "not met"),
        (("--max", "auc=0.7", "--variant", "rtn-8"), "pass", "within the limits"),
        (("--max", "auc=0.51", "--variant", "rtn-8"), "inconclusive", "not shown"),
        (
            ("--no-worse-than", "fp32", "--margin", "auc=0.1", "--variant", "rtn-8"),
            "not evaluable",
            "not evaluable",
        ),
    ],
)
def test_every_outcome_is_valid_in_every_format_with_the_requirements_of_a_profile(
    bitleak, run, options, outcome, guessing
):
    # a variant at chance, which was not compared with full precision
    chance = Measure(0.5, low=0.48, high=0.52, about="records")
    rows = [*read_rows(run), Row("rtn-8", "rtn", 256, "threshold", "", "all", "auc", chance)]
    write_rows(rows, run)
    shown = {}
    for form in ("json", "junit", "markdown", "text"):
        arguments = ("check", run, *options, *ADVERSARY, "--profile", "aisvs", "--format", form)
        shown[form] = bitleak(*arguments)[1]
    values = json.loads(shown["json"])
    schema = json.loads(files("bitleak.report").joinpath("gate.schema.json").read_text())
    jsonschema.validate(values, schema)
    statuses = {entry["name"]: entry["status"] for entry in values["requirements"]}
    assert values["outcome"] == outcome
    assert statuses["v1.0-C11.2.5"] == guessing
    assert statuses["v1.0-C11.2.3"] == "not assessed"
    assert (statuses["v1.0-C3.2.2"] == "evaluated") == (outcome != "not evaluable")

    # JUnit: known elements and attributes alone, required ones there, counts that add up
    root = ElementTree.fromstring(shown["junit"])
    for element in root.iter():
        children, known, required = JUNIT[element.tag]
        assert {child.tag for child in element} <= children
        assert required <= set(element.attrib) <= known
    ended = {"pass": (0, 0), "fail": (1, 0)}.get(outcome, (0, 1))
    assert (len(root.findall(".//failure")), len(root.findall(".//error"))) == ended
    assert (root.get("failures"), root.get("errors")) == tuple(map(str, ended))
    tables = [line for line in shown["markdown"].splitlines() if line.startswith("| v1.0-")]
    assert [line.split(" | ")[2] for line in tables] == list(statuses.values())
    assert f"v1.0-C11.2.5: {guessing}" in shown["text"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs at least one limit, such as --max auc=0.6"),
        (("--max", "auc"), "expected METRIC=NUMBER, such as auc=0.55, got 'auc' without `=`"),
        (("--max", "auc=low"), "expected METRIC=NUMBER, such as auc=0.55, got 'auc=low'"),
        (("--max", "epsilon=1"), "a bound on epsilon is a lower bound"),
        (("--max", "tpr@0.01=0.1"), "the run has no such figure; it has auc"),
        (("--margin", "auc=0.01"), "belong together; give both"),
        (("--no-worse-than", "int8", "--margin", "auc=0.01"), "expected fp32, got 'int8'"),
        (
            ("--max", "auc=0.6", "--variant", "rtn-8"),
            "no variant 'rtn-8'; the run has fp32, rtn-1.58",
        ),
        (("--max", "auc=0.6", "--profile", "asvs"), "--profile: expected aisvs, got 'asvs'"),
        (
            ("--max", "auc=0.6", "--format", "xml"),
            "expected text, markdown, json, junit, got 'xml'",
        ),
    ],
)
def test_mistakes_end_with_2_and_one_line(bitleak, run, arguments, message):
    code, out, err = bitleak("check", run, *ADVERSARY, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_folder_without_tables_is_named(bitleak, tmp_path):
    code, _, err = bitleak("check", tmp_path, "--max", "auc=0.6")
    assert code == 1 or code == 2
    assert "results.parquet: there is no such file" in err


def test_two_runs_are_compared_variant_by_variant(bitleak, run):
    code, out, _ = bitleak("compare", run, run, *ADVERSARY, "--format", "json")
    assert code == 0
    entries = json.loads(out)["differences"]
    assert {entry["variant"] for entry in entries} == {"fp32", "rtn-1.58", "rtn-4", "rtn-2"}
    assert {entry["value"] for entry in entries} == {0.0}


def test_a_comparison_fits_80_columns_and_two_variants_of_one_run_may_be_compared(bitleak, run):
    pairs = ("--variant", "rtn-4=rtn-1.58")
    code, out, _ = bitleak("compare", run, run, *ADVERSARY, *pairs)
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("rtn-4/rtn-1.58"))
    assert line.split()[1:4] == ["0.6500", "0.5500", "-0.1000"]
    assert line.endswith("lower")
    assert len(line) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "rtn-8"), "no variant 'rtn-8' in the first run"),
        (("--adversary", "none"), "no adversary 'none'; did you mean threshold?"),
        (("--format", "csv"), "expected text or json, got 'csv'"),
    ],
)
def test_mistakes_in_a_comparison_end_with_2(bitleak, run, arguments, message):
    options = arguments if "--adversary" in arguments else (*ADVERSARY, *arguments)
    code, out, err = bitleak("compare", run, run, *options)
    assert (code, out) == (2, "")
    assert message in err
