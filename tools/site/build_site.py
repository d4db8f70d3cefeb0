"""Build the documentation site: `python tools/site/build_site.py`, or `make docs`.

Every warning is an error: links to pages, sections and files that are not there among them.
"""

import sys
from pathlib import Path

import site_source


def main() -> int:
    """Assemble the source and build the site; return the exit code of Sphinx."""
    from sphinx.cmd.build import build_main

    folder = site_source.ROOT / "build" / "site"
    source = folder / "source"
    site_source.assemble(source)
    settings = Path(__file__).parent
    arguments = ["-b", "html", "-W", "--keep-going", "-q", "-c", settings]
    code = build_main([str(argument) for argument in [*arguments, source, folder / "html"]])
    if code == 0:
        print(f"{folder / 'html' / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
