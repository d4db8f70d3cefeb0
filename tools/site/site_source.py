"""The source of the documentation site: the pages of the repository, and those made from the code.

`docs/index.md` decides the structure: each heading is a group of the navigation, and each link below
it a page.
"""

import re
import shutil
from pathlib import Path

import method_pages
import notebook_page
import reference_pages

ROOT = Path(__file__).parents[2]

PROJECT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")

GENERATED = {
    "Attacks and quantizers": ("methods/attacks/index.md", "methods/quantizers/index.md"),
    "Reference": (
        "reference/api/index.md",
        "reference/config.md",
        "reference/command-line.md",
    ),
    "Guides": ("notebooks/attack-your-logits.md",),
}
"""Pages that are made here, by the group of the navigation to which they are added."""


def generated_pages() -> dict[str, str]:
    """Return the texts of the pages that are made from code, by path."""
    return {
        **method_pages.pages(),
        **reference_pages.api_pages(),
        "reference/config.md": reference_pages.config_page(),
        "reference/command-line.md": reference_pages.command_page(),
        "notebooks/attack-your-logits.md": notebook_page.page(
            ROOT / "examples" / "attack-your-logits.ipynb"
        ),
    }


def navigation(index: str) -> dict[str, list[str]]:
    r"""Return the groups of the index page and the pages that they list, generated ones last.

    Example:
        >>> navigation("# Title\n\n## Guides\n\n- [A](a.md): first\n- [B](b.md#x)\n")["Guides"][:2]
        ['A <a.md>', 'B <b.md>']
    """
    groups: dict[str, list[str]] = {}
    for part in re.split(r"^## ", index, flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        entries = {}
        for name, link in re.findall(r"^- \[([^\]]+)\]\(([^)#]+)", body, flags=re.M):
            path = local(link)
            if path.endswith(".md") and path != "README.md":
                entries[path] = f"{name} <{path}>"
        groups[title.strip()] = list(entries.values())
    for title, paths in GENERATED.items():
        groups[title] = groups.get(title, []) + list(paths)
    return groups


def local(link: str) -> str:
    """Return a link of a page in `docs/` as the site has it, where all pages are in one folder."""
    return link.removeprefix("../")


def flattened(text: str) -> str:
    """Return a page with its links into the repository as links within the source."""
    text = re.sub(r"\]\(\.\./README\.md[^)]*\)", "](index.md)", text)
    return re.sub(r"\]\((?:\.\./|docs/)", "](", text)


def assemble(folder: Path) -> None:
    """Write the whole source into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Pages, figures and the files that pages link to.
    for page in [*(ROOT / "docs").glob("*.md"), *[ROOT / name for name in PROJECT_PAGES]]:
        (folder / page.name).write_text(flattened(page.read_text(encoding="utf-8")))
    for table in (ROOT / "docs").glob("*.csv"):
        shutil.copy(table, folder)
    for name in ("examples", "findings", "docs/figures"):
        shutil.copytree(ROOT / name, folder / Path(name).name)
    for path, text in generated_pages().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    # The navigation stands at the end of the first page, where the theme looks for it.
    index = folder / "index.md"
    text = index.read_text()
    for title, paths in navigation((ROOT / "docs" / "index.md").read_text()).items():
        listed = "\n".join(paths)
        text += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"
    index.write_text(text)
