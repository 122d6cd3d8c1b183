"""The documents that came with this version: their pages, and the words that they explain. Markdown."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lapse.cli.exit_codes import Code, Refused

GLOSSARY = "docs/concepts/glossary.md"
PLACES = ("docs", "deploy")
SINGLE = ("CHANGELOG.md", "SECURITY.md")
INSIDE = {"docs/stored-format.md", "docs/testing.md"}
"""Pages for who works on lapse: their tables explain no word that it uses to others."""
BY_COMMAND = {
    "docs/reference/command-line.md": "`lapse COMMAND --help` says of each command what it takes.",
    "docs/reference/python.md": "`python -m pydoc lapse` says of each call what it takes.",
}
"""What stands in the place of what only the site makes of code."""

_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_DEFINED = re.compile(r"^(?P<terms>[^\s|#<`:-].*|`\w+`)\n: (?P<text>.+(?:\n(?!\n).+)*)", re.MULTILINE)
_ROW = re.compile(r"^\| (`[^|]*) \|(.*)\|$")
_HIDDEN = re.compile(
    r"<!--.*?-->\n?|^\(\S+\)=\n|^(`{3,})\{(?:toctree|eval-rst|literalinclude)\}.*?^\1\n?", re.DOTALL | re.MULTILINE
)
_INFO = re.compile(r"^( *`{3,}\w+) .*$", re.MULTILINE)
_EMPTY_LINK = re.compile(r"\[\]\(([^)#\s]+)(#[^)]*)?\)")


class Explained(NamedTuple):
    """What a page says of a word: the word as it stands there, and the text."""

    word: str
    text: str
    page: str


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """One page.

    Attributes:
        path: Below the root, as in the repository.
        text: What stands in it.

    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """What it is asked for by: its file's name, or that of the folder that it is the README of."""
        path = PurePosixPath(self.path)
        return path.stem if path.stem != "README" else path.parts[1 if "helm" in path.parts else -2]

    @property
    def title(self) -> str:
        """Its first heading."""
        found = _TITLE.search(self.text)
        return found[1].replace("`", "") if found else self.name


class Manual:
    """All pages below a folder."""

    def __init__(self, root: Path) -> None:
        paths = [path for place in PLACES for path in (root / place).rglob("*.md")]
        paths += [path for name in SINGLE if (path := root / name).is_file()]
        self.pages = [
            DocumentPage(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(paths)
        ]

    @cached_property
    def by_name(self) -> Mapping[str, DocumentPage]:
        """Every page by its name."""
        return {page.name.casefold(): page for page in self.pages}

    @cached_property
    def words(self) -> Mapping[str, Sequence[Explained]]:
        """Every word that a page explains, in a list of terms or a table, as ``plain`` has it."""
        found: dict[str, list[Explained]] = {}
        for page in sorted(self.pages, key=lambda one: one.path != GLOSSARY):
            for one in _explained(page) if page.path not in INSIDE else ():
                found.setdefault(plain(one.word), []).append(one)
        return found

    def readable(self, page: DocumentPage) -> str:
        """Return a page as it is read in a terminal: without what only the site needs."""
        text = _INFO.sub(r"\1", _HIDDEN.sub("", page.text))
        text = _DEFINED.sub(lambda found: f"- **{found['terms']}**: {found['text']}", text)
        text = self.linked(page, text)
        return text.rstrip() + (f"\n\n{BY_COMMAND[page.path]}" if page.path in BY_COMMAND else "") + "\n"

    def linked(self, page: DocumentPage, text: str) -> str:
        """Return a text of a page with the titles of pages that it links to without naming them."""
        return _EMPTY_LINK.sub(lambda link: f"*{self._titled(page, link[1])}*", text)

    def _titled(self, page: DocumentPage, link: str) -> str:
        name = PurePosixPath(link).stem.casefold() if link else page.name
        return self.by_name[name].title if name in self.by_name else link


def plain(word: str) -> str:
    """Return a word as words are compared: whatever its case, and with spaces for what parts it."""
    return re.sub(r"[\s_-]+", " ", word).strip().casefold()


def manual() -> Manual:
    """Return the documents of this installation; of a checkout, its own.

    Raises:
        Refused: there are none: whoever packed lapse left them out.

    """
    packed = Path(str(files("lapse").joinpath("pages")))
    root = packed if packed.is_dir() else packed.parents[2]
    if not (root / GLOSSARY).is_file():
        raise Refused(Code.USAGE, f"this installation has no documents: they would be in {packed}")
    return Manual(root)


def _explained(page: DocumentPage) -> Iterator[Explained]:
    for found in _DEFINED.finditer(page.text):
        text = found["text"].replace("\n  ", " ").replace("\n", " ")
        for term in found["terms"].split(", "):
            yield Explained(term.strip("`"), text, page.path)
    yield from _rows(page)


def _rows(page: DocumentPage) -> Iterator[Explained]:
    header: list[str] = []
    for line in page.text.splitlines():
        if not line.startswith("|"):
            header = []
        elif not header:
            header = [cell.strip() for cell in line.strip("|").split("|")]
        elif found := _ROW.match(line):
            cells = [cell.strip() for cell in found[2].split(" | ")]
            told = [f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], cells, strict=False) if cell]
            for word in re.findall(r"`([\w.*-]+)", found[1]):
                yield Explained(word, "  \n".join(told), page.path)
