import json
import shutil

import pytest

from bitleak.core.errors import StoreError
from bitleak.report import Summary, read_summary, write_report, write_summary


def test_a_summary_comes_back_from_its_file(summary, tmp_path):
    write_summary(summary, tmp_path)
    assert read_summary(tmp_path) == summary


def test_every_missing_or_wrong_key_is_named(summary, tmp_path):
    value = summary.to_json()
    del value["dataset"]
    value["models"] = "many"
    value["variants"][0]["bytes"] = None
    (tmp_path / "summary.json").write_text(json.dumps(value))
    with pytest.raises(StoreError, match=r"summary\.json") as error:
        read_summary(tmp_path)
    assert all(name in str(error.value) for name in ("dataset", "models", "variants.0.bytes"))


@pytest.mark.parametrize("content", ["", "{", "[]", "3", b"\xff\xfe\x00"])
def test_a_broken_summary_is_a_store_error(content, tmp_path):
    (tmp_path / "summary.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(StoreError, match=r"summary\.json: cannot be used"):
        read_summary(tmp_path)


def test_a_missing_summary_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="there is no such file"):
        read_summary(tmp_path)


def test_json_holds_plain_values_only(summary):
    value = summary.to_json()
    assert value == json.loads(json.dumps(value))
    assert Summary.from_json(value) == summary


def test_a_summary_says_its_schema_and_the_warnings(make, rows, tmp_path):
    write_summary(make.summary(rows, warnings=("The labels count from 1.",)), tmp_path)
    value = json.loads((tmp_path / "summary.json").read_text())
    assert (value["schema"], value["warnings"]) == (2, ["The labels count from 1."])


def test_a_run_of_before_the_schema_is_reported_with_the_command_that_remakes_it(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    value = json.loads((old / "summary.json").read_text())
    del value["schema"], value["warnings"]
    (old / "summary.json").write_text(json.dumps(value))
    write_report(old)
    page = (old / "report.html").read_text()
    assert "schema 1" in page
    assert "`bitleak audit` on the same config" in page
    assert page.index("schema 1") < page.index('class="verdict"')
    assert "schema 1" not in (folder / "report.html").read_text()
    attacked = Summary.from_json(value | {"source": "answers.npz"})
    assert "`bitleak attack` on the same answers remakes them" in attacked.older


def test_a_summary_of_a_later_schema_is_refused(summary, tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(summary.to_json() | {"schema": 3}))
    with pytest.raises(StoreError, match="schema must be from 1 to 2, got 3; a newer bitleak"):
        read_summary(tmp_path)
