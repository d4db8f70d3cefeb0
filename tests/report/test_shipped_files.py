"""Variants that are files: their facts on the page, in Markdown, and in `summary.json`."""

import pytest

from bitleak.core.types import CUT_SUMS
from bitleak.report import FileSummary, Summary, tabulate
from bitleak.report.page import page
from bitleak.report.sections.shipped_files import file_table
from bitleak.report.text_report import markdown_report

RECORD = {
    "levels_counted": {"conv": 4, "fc": 3},
    "float_layers": ["stem", "he|ad"],
    "quantized_activations": True,
    "layer_bytes": 26_480,
    "coded_bytes": 13_240,
}
FACTS = {
    "runtime": "onnxruntime 1.32.0",
    "provider": "CPUExecutionProvider",
    "optimisation": "all",
    "accuracy_level": 0,
}


def shown(**changes):
    return FileSummary.of("int8", RECORD, {**FACTS, **changes}, 36_955)


@pytest.mark.parametrize(
    ("facts", "arithmetic"),
    [
        ({}, "float32"),
        ({"accuracy_level": 4}, "accuracy level 4"),
        ({"arithmetic": "bf16"}, "bf16"),
        ({"accuracy_level": None}, ""),
    ],
)
def test_the_arithmetic_is_that_of_the_runtime(facts, arithmetic):
    assert shown(**facts).arithmetic == arithmetic


def test_page_and_markdown_show_a_file_in_its_runtime(rows, make):
    summary = make.summary(rows, files=(shown(),))
    (line,) = file_table(summary).lines
    cells = [cell.main for cell in line[1]]
    assert (line[0], cells) == (
        "int8",
        [
            "onnxruntime 1.32.0",
            "all",
            "float32",
            "4",
            "quantized",
            "36,955",
            "26,480",
            "13,240",
            "2",
        ],
    )
    html, text = page(tabulate(rows), summary, ()), markdown_report(tabulate(rows), summary)
    layers = html.partition('id="layers"')[2].partition("</details>")[0]
    for content in (*cells, "CPUExecutionProvider"):
        assert content in layers, content
    assert "stem, he|ad" in layers
    row = next(line for line in text.splitlines() if line.startswith("| int8 | onnxruntime"))
    assert "| 36,955 | 26,480 | 13,240 | 2 (stem, he\\|ad) |" in row
    assert Summary.from_json(summary.to_json()) == summary


def test_a_file_that_answers_otherwise_elsewhere_is_named(rows, make):
    for arithmetic, named in (("8-bit integers", False), (CUT_SUMS, True)):
        summary = make.summary(rows, files=(shown(), shown(arithmetic=arithmetic)))
        text = markdown_report(tabulate(rows), summary)
        assert ("on others, int8 may answer otherwise, and leak otherwise" in text) is named
        assert f"| {arithmetic} |" in text


def test_without_files_there_is_no_table(rows, make):
    summary = make.summary(rows)
    assert file_table(summary) is None
    assert "Files in their runtimes" not in page(tabulate(rows), summary, ())
    value = summary.to_json()
    del value["files"]
    assert Summary.from_json(value) == summary
