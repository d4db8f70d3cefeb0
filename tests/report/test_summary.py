import json

import pytest

from bitleak.core.errors import StoreError
from bitleak.report import Summary, read_summary, write_summary


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
    (tmp_path / "summary.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=r"summary\.json: cannot be used"):
        read_summary(tmp_path)


def test_a_missing_summary_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="there is no such file"):
        read_summary(tmp_path)


def test_json_holds_plain_values_only(summary):
    value = summary.to_json()
    assert value == json.loads(json.dumps(value))
    assert Summary.from_json(value) == summary
