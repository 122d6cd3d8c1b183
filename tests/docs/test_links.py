"""Links that lead out of the documents: each stands in one file, as nothing here can follow them."""

import re

from docs.blocks import DOCS

ROOT = DOCS.parent
KINDS = {".md", ".py", ".toml", ".yaml", ".service"}
PAGES = [
    *DOCS.rglob("*.md"),
    *(ROOT / "deploy").glob("*.md"),
    *(ROOT / "deploy" / "runbooks").glob("*.md"),
    *ROOT.glob("*.md"),
]


def test_nothing_says_that_lapse_comes_from_an_index() -> None:
    """It is installed from the repository or from a wheel: what an index has under that name is not this."""
    places = ("worker", "config", "deploy", "docs", "examples")
    read = [*PAGES, *(path for place in places for path in (ROOT / place).rglob("*") if path.suffix in KINDS)]
    told = re.compile(r"pip install (?:\S+ )*['\"]?lapse(?:\[|\b)(?!-)")

    assert [] == [
        str(path.relative_to(ROOT))
        for path in read
        if "node_modules" not in path.parts and told.search(path.read_text(encoding="utf-8"))
    ]


def test_every_link_that_leads_out_is_listed_and_every_one_that_is_listed_is_there() -> None:
    links = {
        link for page in PAGES for link in re.findall(r"\]\((https?://[^)\s]+)\)", page.read_text(encoding="utf-8"))
    }

    assert sorted(links) == (DOCS / "external-links.txt").read_text(encoding="utf-8").splitlines()
