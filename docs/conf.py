"""How the documents become a site: ``make docs``. The repository is its source folder: links lead as they stand."""

from importlib.metadata import version as installed

project = "lapse"
author = "the lapse authors"
copyright = author  # noqa: A001 - Sphinx' name
version = release = installed("lapse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "deploy/README.md",
    "deploy/helm/lapse/README.md",
    "deploy/runbooks/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
]
nitpicky = True
# What docstrings name of other packages, of Python, and of what is no public name of lapse.
nitpick_ignore_regex = [("py:.*", r"(?!lapse\.[A-Z]).*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

html_theme = "furo"
html_title = "lapse"
html_static_path = ["site"]
html_css_files = ["lapse.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
