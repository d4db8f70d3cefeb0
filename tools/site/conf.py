"""Settings of Sphinx for the documentation site; `build_site.py` gives the folders."""

import bitleak

project = "bitleak"
version = release = bitleak.__version__
html_title = f"bitleak {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["examples/**", "findings/**"]
myst_heading_anchors = 4
nitpicky = False
default_role = "code"  # docstrings write code in single backticks
autodoc_typehints = "description"  # shapes are too long for signatures
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Attributes", "params_style")]
python_use_unqualified_type_names = True
highlight_language = "text"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
