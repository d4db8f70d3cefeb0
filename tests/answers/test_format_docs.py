"""The example of docs/scores.md runs as it stands."""

import re
from pathlib import Path


def test_the_example_of_the_documentation_writes_a_file_that_can_be_attacked(
    lab, tmp_path, monkeypatch
):
    text = (Path(__file__).parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    rows, prepared, _ = lab.rows_of(tmp_path, tmp_path / "answers.npz", targets="0,1")
    assert prepared.design.per_side() == 7
    assert prepared.design.complements == (1, 0)
    (area,) = [row.measure for row in rows if (row.variant, row.attack, row.target, row.metric)
               == ("fp32", "lira-online-fixed", "all", "auc")]  # fmt: skip
    assert abs(area.value - 0.5) < 0.1
