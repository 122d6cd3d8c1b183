"""What a server was asked, as MONITOR tells it: each call of a script with what it did there."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_LINE = re.compile(rb"^\+?[0-9.]+ \[\d+ (\S+)\] (.*)$")
_PART = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_ALL = {b"EXISTS", b"DEL", b"UNLINK"}


@dataclass
class Asked:
    """One command of a client, and the keys that it touched as a script."""

    parts: list[bytes]
    touched: set[bytes] = field(default_factory=set)


@contextmanager
def monitored(url: str) -> Iterator[list[Asked]]:
    """Collect what a server is asked, until the block ends."""
    found: list[Asked] = []
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port)) as sock:
        lines = sock.makefile("rb")
        sock.sendall(b"MONITOR\r\n")
        assert lines.readline() == b"+OK\r\n"
        reader = threading.Thread(target=_read, args=(lines, found), daemon=True)
        reader.start()
        yield found
        with socket.create_connection((at.hostname, at.port)) as last:
            last.sendall(b"ECHO the-end\r\n")
            reader.join(10)
        assert not reader.is_alive()


def plain(line: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return who asked, ``lua`` for a script, and the command with its arguments; None of a line that is none."""
    told = _LINE.match(line.rstrip(b"\r\n"))
    return (told[1], [_ESCAPED.sub(_unescaped, part) for part in _PART.findall(told[2])]) if told else None


def _read(lines: Iterator[bytes], found: list[Asked]) -> None:
    for line in lines:
        if not (told := plain(line)):
            continue
        client, parts = told
        if parts == [b"ECHO", b"the-end"]:
            return
        if client != b"lua":
            found.append(Asked(parts))
        elif len(parts) > 1:
            found[-1].touched.update(parts[1:] if parts[0].upper() in _ALL else parts[1:2])


def _unescaped(escaped: re.Match[bytes]) -> bytes:
    text = escaped[1]
    return bytes.fromhex(text[1:].decode()) if len(text) == 3 else _NAMED.get(text, text)
