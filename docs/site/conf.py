"""Sphinx's settings for `make docs`: the pages of docs/ as a site that asks no other host for anything."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import site_pages

project = "Open-EXAONE"
author = "The Open-EXAONE authors"
project_copyright = "The Open-EXAONE authors; Apache-2.0"
extensions = ["myst_parser"]
exclude_patterns = ["site/*.md"]
root_doc = "index"
myst_heading_anchors = 4  # as on GitHub, whose names of anchors these are
suppress_warnings = [
    "misc.highlighting_failure",  # blocks of TOML, JSON and Python in the pages hold … where something is left out
]
smartquotes = False  # quotation marks are part of settings
html_theme = "furo"
html_title = "Open-EXAONE"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["site.css"]


def setup(app):
    """Shapes each page's text before it is read."""
    app.connect("source-read", site_pages.read)
