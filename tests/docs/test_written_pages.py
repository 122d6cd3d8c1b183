"""The pages that are written from elsewhere are what they are written from."""

import runpy

from docs.blocks import DOCS

WRITER = DOCS / "reference" / "write.py"


def test_each_written_page_is_as_make_reference_writes_it() -> None:
    pages = runpy.run_path(str(WRITER))["pages"]()

    assert len(pages) > 1
    assert [] == [name for name, text in pages.items() if (DOCS / name).read_text(encoding="utf-8") != text]
