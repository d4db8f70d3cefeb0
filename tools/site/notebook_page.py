"""A notebook as a page: its text, its code, and the output that it was stored with."""

import json
from pathlib import Path


def page(path: Path) -> str:
    """Return a notebook as Markdown."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    parts.append(f"[The notebook itself](../examples/{path.name})")
    return "\n\n".join(parts) + "\n"
