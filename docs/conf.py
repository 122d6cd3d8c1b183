"""How the documents become a site: ``make docs``. The repository is its source folder: links lead as they stand."""

import json
from collections.abc import Iterator
from importlib.metadata import version as installed
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lapse.policy.schema import schema

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
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}


class PolicyFile(SphinxDirective):
    """Every table of the policy file with its keys, from its JSON Schema."""

    def run(self) -> list[nodes.Node]:
        """Return a section a table."""
        return self.parse_text_to_nodes("\n".join(_tables(schema())), allow_section_headings=True)


def _tables(whole: dict[str, Any]) -> Iterator[str]:
    for name, one in whole["properties"].items():
        several = [*one.get("patternProperties", {}).values()]
        table = whole["definitions"][(several[0] if several else one)["$ref"].rpartition("/")[2]]
        yield f"## `[{name}{'.NAME' if several else ''}]`\n\n{table['description']}\n"
        for key, said in table["properties"].items():
            yield f"`{key}`\n: {' '.join(said.get('description', 'See below.').split())}{_default(said)}\n"


def _default(said: dict[str, Any]) -> str:
    return f" Default: `{_toml(said['default'])}`." if said.get("default") not in (None, [], {}) else ""


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value.items())} }}"
    return json.dumps(value)


def setup(app: Sphinx) -> None:
    """Add what the pages use."""
    app.add_directive("policy-file", PolicyFile)
