"""The notebook runs as it is stored, and says what it is stored with."""

import contextlib
import io
import json
import re
from pathlib import Path

import notebook_page

NOTEBOOK = Path(__file__).parents[1] / "examples" / "attack-your-logits.ipynb"


def test_the_notebook_prints_the_output_that_it_is_stored_with():
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4
    names, lines = {}, 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        lines += len([line for line in code.splitlines() if line.strip()])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, NOTEBOOK.name, "exec"), names)
        stored = ["".join(output["text"]) for output in cell["outputs"]]
        assert "".join(stored) == printed.getvalue()
        assert cell["execution_count"] is None
    assert lines < 30
    # References find more than a threshold can: records differ in difficulty by twice the shift of members.
    values = dict(re.findall(r"^(\S+) +auc +(\S+)", printed.getvalue(), flags=re.M))
    assert float(values["lira-online-shrunk"]) > float(values["threshold"]) + 0.1


def test_the_notebook_has_no_path_of_a_machine():
    assert re.findall(r"/(?:home|root|work|tmp|Users)/", NOTEBOOK.read_text()) == []


def test_the_notebook_is_a_page_with_its_text_code_and_output():
    page = notebook_page.page(NOTEBOOK)
    assert page.startswith("# Attack your own logits\n")
    assert page.count("```python") == 3
    assert "bitleak.attack_view(" in page
    assert re.search(r"```text\nthreshold +auc +0\.\d{3} \[", page)
