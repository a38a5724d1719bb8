"""Sphinx's configuration; ``python docs/build.py`` copies it beside the gathered pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import memviz

project = "memviz"
author = "The memviz authors"
copyright = author
version = release = memviz.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "parts.mathml",
    "parts.notebook_output",
    "parts.from_printed",
]
exclude_patterns = ["parts", "extra"]
html_extra_path = ["extra"]

# The notebooks come executed; those cells are not run again.
nb_execution_mode = "off"
# Where no kernel is, the still picture of a view stands for it.
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "application/javascript", None),
]
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_merge_streams = True
# Progress bars, which a page would show half done.
nb_output_stderr = "remove"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "memviz"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "start": []}
html_theme_options = {
    "logo": {"text": "memviz"},
    "navbar_persistent": ["search-button"],  # the field would not fit beside seven links
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
    "show_toc_level": 2,
}
