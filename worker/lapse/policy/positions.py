"""Where in a TOML text each key stands: ``tomllib`` checks and reads the text, this finds the lines. No I/O.

The text is one that ``tomllib`` accepts, or the beginning of one that it refused. So nothing is validated here, and
where a text ends early the positions found so far are the answer.
"""

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress

Path = tuple[str | int, ...]
"""Keys and array indexes from the top of the document: ``("policies", "chat", "keep", 0, "name")``."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_GAP = re.compile(rf"{_BLANK.pattern},?{_BLANK.pattern}")
_OPEN = re.compile(r"\[\[?[ \t]*")
_CLOSE = re.compile(r"[ \t]*\]{0,2}")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_SCALAR = re.compile(
    r'"{3}(?:\\.|[^\\])*?"{3,5}'
    r"|'{3}.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[^,\]}#\n\"'\[{]+",
    re.DOTALL,
)


class Positions:
    """The line of every table, key and array element of one TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._implied: set[Path] = set()
        self._arrays: dict[Path, int] = {}
        self.last: Path = ()
        """The table or key that was read last; of a text that breaks off, the one to blame."""
        self.repeated: Path | None = None
        """The table or key that was written a second time last."""
        with suppress(EOFError, RecursionError, tomllib.TOMLDecodeError):
            self._document()

    def line(self, path: Path) -> int:
        """Return the line, from 1, of a key; where it is not written that of the innermost table around it."""
        while path not in self._lines and path:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _document(self) -> None:
        table: Path = ()
        while True:
            self._take(_BLANK)
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        start = self._at
        array = self._take(_OPEN).startswith("[[")
        *above, last = self._keys()
        self._take(_CLOSE)
        path: Path = ()
        for key in above:
            path = self._inside((*path, key), start)
        path = (*path, last)
        if array:
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path = self._inside(path, start)
        self._note(path, start)
        return path

    def _inside(self, path: Path, start: int) -> Path:
        self._imply(path, start)
        return (*path, self._arrays[path]) if path in self._arrays else path

    def _pair(self, table: Path) -> None:
        start = self._at
        keys = self._keys()
        for depth in range(1, len(keys)):
            self._imply((*table, *keys[:depth]), start)
        path = (*table, *keys)
        self._note(path, start)
        self._take(_EQUALS)
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._peek()
        if opening in "[{":
            self._at += 1
            (self._array if opening == "[" else self._inline)(path)
        else:
            self._take(_SCALAR)

    def _array(self, path: Path) -> None:
        index = 0
        while self._more("]"):
            self._lines[(*path, index)] = self._line(self._at)
            self._value((*path, index))
            index += 1

    def _inline(self, path: Path) -> None:
        while self._more("}"):
            self._pair(path)

    def _more(self, end: str) -> bool:
        """Go to the next element of an array or inline table, or behind its end and return False."""
        self._take(_GAP)
        if self._peek() == end:
            self._at += 1
            return False
        return True

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while found := _DOT.match(self._text, self._at):
            self._at = found.end()
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        raw = self._take(_KEY)
        if raw[0] in "\"'":
            return next(iter(tomllib.loads(f"{raw} = 0")))
        return raw

    def _note(self, path: Path, start: int) -> None:
        self.last = path
        if path in self._lines and path not in self._implied:
            self.repeated = path
            return
        self._lines[path] = self._line(start)
        self._implied.discard(path)

    def _imply(self, path: Path, start: int) -> None:
        if path not in self._lines:
            self._lines[path] = self._line(start)
            self._implied.add(path)

    def _line(self, at: int) -> int:
        return bisect_right(self._ends, at - 1) + 1

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise EOFError
        return self._text[self._at]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise EOFError
        self._at = found.end()
        return found.group()
