"""The fenced blocks of the documents, each with what becomes of it: run, only parsed, or run by another make target.

``cd tests && python -m docs.blocks`` prints how many of each there are.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TAGS = ("run", "parse", "elsewhere")
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        page: The file it stands in.
        line: In which line it begins.
        language: The first word behind the fence.
        tag: The second: what becomes of it; empty if there is none.
        words: The others.
        text: What stands in it.

    """

    page: Path
    line: int
    language: str
    tag: str
    words: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        """Say where it stands."""
        return f"{self.page.relative_to(DOCS.parent)}:{self.line}"


def pages() -> list[Path]:
    """Return every page of the documents."""
    return sorted(DOCS.rglob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page; directives, whose info is in braces, are no blocks."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language, tag, *words = [*found["info"].split(), "", ""][: max(2, len(found["info"].split()))]
        if language.startswith("{"):
            continue
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, tag, tuple(words), body)


def main() -> None:
    """Print how many blocks there are of each kind."""
    counts = Counter(block.tag for page in pages() for block in blocks(page))
    sys.stdout.write(f"run {counts['run']}, parsed {counts['parse']}, elsewhere {counts['elsewhere']}\n")


if __name__ == "__main__":
    main()
