"""Settings of the documentation site: `make docs` builds it, offline, into `out/docs`."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "sftopt"
author = "The sftopt contributors"
copyright = author
release = installed_version("sftopt")

extensions = [
    "sphinx.ext.autodoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "accessible",  # ours: what the theme leaves out for keyboards and readers of the screen
    "mathml",  # ours: formulas as MathML, which browsers draw themselves
    "outside_links",  # ours: the list of links that lead outside
    "reference_pages",  # ours: the reference, written from the code
    "repository_pages",  # ours: pages of the repository outside of docs/
]
exclude_patterns = ["_ext", "**/.ipynb_checkpoints"]

# warnings are errors in `make docs`; these are no faults of ours
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "out" / "docs-cache")
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"sftopt {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
