"""What is written from elsewhere is as it is written from there: pages of the reference, and man pages."""

import re
import runpy

import click
import pytest

from docs.blocks import DOCS
from lapse.cli.main import lapse

WRITERS = {"reference": DOCS, "man": DOCS / "man"}
MAN_PAGES = sorted((DOCS / "man").glob("man?/*"))


@pytest.mark.parametrize("writer", WRITERS)
def test_each_page_is_as_make_reference_writes_it(writer: str) -> None:
    pages = runpy.run_path(str(DOCS / writer / "write.py"))["pages"]()

    assert len(pages) > 1
    assert [] == [name for name, text in pages.items() if (WRITERS[writer] / name).read_text("utf-8") != text]


def test_no_man_page_is_left_of_what_is_gone() -> None:
    pages = runpy.run_path(str(DOCS / "man" / "write.py"))["pages"]()

    assert sorted(DOCS / "man" / name for name in pages) == MAN_PAGES


def test_each_command_has_a_man_page_with_its_options() -> None:
    context = click.Context(lapse, info_name="lapse")
    for name in lapse.list_commands(context):
        command = lapse.get_command(context, name)
        assert command
        text = (DOCS / "man" / "man1" / f"lapse-{name}.1").read_text("utf-8")
        text = re.sub(r"\\f[BIP]", "", text).replace("\\-", "-")
        named = {opt for param in command.params if isinstance(param, click.Option) for opt in param.opts}
        assert [] == [opt for opt in named if not re.search(rf"(?<![\w-]){re.escape(opt)}(?![\w-])", text)]
