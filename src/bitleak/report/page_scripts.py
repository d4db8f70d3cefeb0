"""The scripts of the page: Vega, Vega-Lite, the page's own, and the hashes that allow them alone.

The page's Content-Security-Policy names the SHA-256 of each script and forbids requests and `eval`;
Vega's expressions are run by its interpreter instead.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

from markupsafe import Markup


class Script(NamedTuple):
    """An inlined script.

    Attributes:
        content: Its text.
        hash: Base64 of the SHA-256, as a policy names it.
    """

    content: Markup
    hash: str


@lru_cache(maxsize=1)
def scripts() -> tuple[Script, ...]:
    """Return the page's scripts in the order in which they run."""
    folder = resources.files("bitleak.report")
    library = folder / "vega"
    interpreter = (library / "vega-interpreter.js").read_text(encoding="utf-8")
    contents = (
        (library / "vega.min.js").read_text(encoding="utf-8"),
        (library / "vega-lite.min.js").read_text(encoding="utf-8"),
        _as_classic(interpreter),
        (folder / "page.js").read_text(encoding="utf-8"),
    )
    return tuple(map(_script, contents))


def embedded_json(data: Mapping[str, Any]) -> Markup:
    """Return data for a `<script type="application/json">`; no name in it can end the element."""
    content = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        content = content.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(content)


def _as_classic(module: str) -> str:
    """Return the interpreter's module as a classic script that adds itself to Vega."""
    imported = re.sub(r"^import (\{.*?\}) from 'vega-util';", r"const \1 = vega;", module)
    added = re.sub(
        r"^export \{ expression as expressionInterpreter \};",
        "vega.expressionInterpreter = expression;",
        imported,
        flags=re.MULTILINE,
    )
    return f"(() => {{\n{added}\n}})();"


def _script(content: str) -> Script:
    digest = hashlib.sha256(content.encode()).digest()
    return Script(Markup(content), base64.b64encode(digest).decode())
