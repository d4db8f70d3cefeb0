"""A check as text, Markdown, JSON and JUnit XML."""

import json
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import jsonschema
import pytest

from bitleak.report.gate_formats import as_json, as_junit, as_markdown, as_text
from bitleak.report.release_gate import GateResult, Limit, LimitCheck, VariantCheck

AUC = Limit("auc", 0.6)


def variant(name, outcome, *, value=0.55, needed="", reason=""):
    ends = {} if reason else {"value": value, "low": value - 0.01, "high": value + 0.01}
    check = LimitCheck(AUC, p_pass=0.01, p_fail=1.0, about="records", reason=reason, **ends)
    return VariantCheck(name, outcome, 0.02, 1.0, (check,), 23_000, needed)


@pytest.fixture
def result():
    variants = (
        variant("obc-2", "pass"),
        variant("obc-4", "fail", value=0.65),
        variant("rtn-2", "inconclusive", value=0.6, needed="about 9,000 records (auc <= 0.6)"),
        variant('rtn<&>"|', "not evaluable", reason="auc has no interval"),
    )
    return GateResult("a title", "rmia-online/matched", (AUC,), variants, ("a note",))


def test_json_is_valid_against_its_schema_and_holds_every_outcome(result):
    schema = json.loads(files("bitleak.report").joinpath("gate.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    values = json.loads(as_json(result))
    jsonschema.validate(values, schema)
    assert values["outcome"] == "fail"
    assert [item["outcome"] for item in values["variants"]] == [
        check.outcome for check in result.variants
    ]
    # an estimate at the limit has no factor, which JSON writes as null
    assert values["variants"][0]["limits"][0]["factor"] is None


def test_the_schema_refuses_an_unknown_outcome(result):
    schema = json.loads(files("bitleak.report").joinpath("gate.schema.json").read_text())
    values = json.loads(as_json(result))
    values["variants"][0]["outcome"] = "maybe"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)


def test_junit_counts_failures_and_takes_undecided_variants_for_errors(result):
    suite = ElementTree.fromstring(as_junit(result)).find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "1",
        "errors": "2",
    }
    by_name = {case.get("classname"): case for case in suite.iter("testcase")}
    assert set(by_name) == {check.variant for check in result.variants}
    assert by_name["obc-2"].find("failure") is None
    assert by_name["obc-2"].find("error") is None
    assert by_name["obc-4"].find("failure") is not None
    assert by_name["rtn-2"].find("error").get("message").startswith("about 9,000 records")
    assert by_name['rtn<&>"|'].find("error").get("type") == "not evaluable"


def test_markdown_tables_keep_their_columns_whatever_a_name_holds(result):
    lines = as_markdown(result).splitlines()
    table = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 4
    assert "0.5500 [0.5400, 0.5600]" in table[2]
    assert "- `rtn-2`: about 9,000 records (auc <= 0.6)" in lines


def test_text_ends_with_the_outcome_and_fits_80_columns(result):
    lines = as_text(result).splitlines()
    expected = "fail: 1 pass, 1 fail, 1 inconclusive, 1 not evaluable (auc <= 0.6; adversary rmia-online/matched)"
    assert lines[-1] == expected
    assert max(map(len, lines[:-1])) <= 80
    assert "    auc <= 0.6: auc has no interval" in lines
