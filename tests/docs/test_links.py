"""Links that lead out of the documents: each stands in one file, as nothing here can follow them."""

import re

from docs.blocks import DOCS

ROOT = DOCS.parent
PAGES = [
    *DOCS.rglob("*.md"),
    *(ROOT / "deploy").glob("*.md"),
    *(ROOT / "deploy" / "runbooks").glob("*.md"),
    *ROOT.glob("*.md"),
]


def test_every_link_that_leads_out_is_listed_and_every_one_that_is_listed_is_there() -> None:
    links = {
        link for page in PAGES for link in re.findall(r"\]\((https?://[^)\s]+)\)", page.read_text(encoding="utf-8"))
    }

    assert sorted(links) == (DOCS / "external-links.txt").read_text(encoding="utf-8").splitlines()
