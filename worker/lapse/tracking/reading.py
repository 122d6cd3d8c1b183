"""Reads the body of an answer while it passes: JSON as a whole, server-sent events one by one. No I/O."""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lapse.tracking.statements import KnownRequest, Statement

MOST = 8 * 1024 * 1024
"""Bytes of an answer that are kept; of a longer one, the beginning is looked through for its id."""

MOST_ASKED = 1024 * 1024
"""Bytes of a request's body that are read."""

_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([^"\\]+)"')
_STORE = re.compile(rb'"store"\s*:\s*(true|false)')


def parser() -> Callable[[bytes], Any]:
    """Return how JSON is read: by what the OpenAI SDK brings along, 20 times as fast as the standard library."""
    try:
        from jiter import from_json  # noqa: PLC0415 - imported where an application is tracked, never by `import lapse`
    except ImportError:
        return json.loads
    return from_json


class UnreadableAnswer(Exception):
    """An answer that ids cannot be read from; the text says why."""


def asked(body: bytes, parse: Callable[[bytes], Any]) -> Any:
    """Return what a request's body says, or None where it is no JSON; of a long one, only whether to store."""
    if len(body) > MOST_ASKED:
        store = _STORE.search(body)
        return {"store": store[1] == b"true"} if store else None
    try:
        return parse(body)
    except ValueError:
        return None


def _inflating(encoding: str) -> Callable[[bytes], bytes] | None:
    """Return what decodes a body piece by piece, or None for an encoding that the standard library does not know."""
    if encoding in {"", "identity"}:
        return bytes
    if encoding == "gzip":
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
    return zlib.decompressobj().decompress if encoding == "deflate" else None


class AnswerBody:
    """The body of one answer.

    Args:
        exchange: What was asked.
        headers: The answer's.
        parse: How JSON is read.
        decode: Decodes a whole body by one encoding, as the HTTP client does.

    Raises:
        UnreadableAnswer: a stream of events in an encoding that only whole bodies can be decoded from.

    """

    def __init__(
        self,
        exchange: KnownRequest,
        headers: Mapping[str, str],
        parse: Callable[[bytes], Any],
        decode: Callable[[bytes, str], bytes],
    ) -> None:
        self.streamed = headers.get("content-type", "").startswith("text/event-stream")
        self._said: set[tuple[object, ...]] = set()
        self._exchange = exchange
        self._parse = parse
        self._encoding = headers.get("content-encoding", "").strip().lower()
        self._inflate = _inflating(self._encoding)
        self._decode = decode
        if self.streamed and self._inflate is None:
            raise UnreadableAnswer(f"its events are {self._encoding}-encoded")
        self._kept = bytearray()
        self._event = b""
        self._over = False

    def passed(self, chunk: bytes) -> list[Statement]:
        """Take the next bytes; return what they say: of a JSON answer, nothing before its end."""
        if self._over:
            return []
        try:
            self._kept += self._inflate(chunk) if self._inflate else chunk
        except zlib.error as error:
            self._over = True
            raise UnreadableAnswer(f"its body cannot be decoded: {error}") from None
        if self.streamed:
            return self._noted(self._events())
        if len(self._kept) > MOST:
            self._over = True
            return self._head(f"it is longer than {MOST} bytes and does not begin with an id")
        return []

    @property
    def silent(self) -> bool:
        """True if an object was made here, and its id was not said."""
        return self._exchange.creates and not self._said

    def ended(self, *, cut: bool = False) -> list[Statement]:
        """Return what the whole body says, or, of one that was cut, what came of it."""
        if self._over or self.streamed:
            return []
        self._over = True
        if not self._kept.strip():
            return [] if cut else self._noted(self._exchange.answered(None))
        try:
            body = bytes(self._kept) if self._inflate else self._decode(bytes(self._kept), self._encoding)
            return self._noted(self._exchange.answered(self._parse(body)))
        except ValueError:
            return self._head("it was cut" if cut else "it is no JSON")

    def _head(self, why: str) -> list[Statement]:
        found = _FIRST_ID.match(self._kept)
        if not found:
            raise UnreadableAnswer(why)
        return self._noted(self._exchange.created(found[1].decode("utf-8", "replace")))

    def _events(self) -> Iterator[Statement]:
        """Return what complete events say; their fields: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
        *lines, rest = self._kept.replace(b"\r\n", b"\n").split(b"\n")
        self._kept = bytearray(rest)
        if len(self._kept) > MOST:
            self._over = True
            raise UnreadableAnswer(f"an event is longer than {MOST} bytes")
        for line in lines:
            if line.startswith(b"event:"):
                self._event = bytes(line[6:]).strip()
            elif line.startswith(b"data:"):
                yield from self._object(bytes(line[5:]))
            elif not line:
                self._event = b""

    def _object(self, data: bytes) -> Iterator[Statement]:
        events = self._exchange.found.endpoint.events or {}
        if self._event.decode("utf-8", "replace") not in events if self._event else self._said:
            return  # of data without a type, the first one says it all
        try:
            found = self._parse(data)
        except ValueError:  # [DONE], and data of several lines
            return
        if not isinstance(found, dict):
            return
        kind = self._event.decode() or str(found.get("type") or "")
        if kind in events:
            path, id_field = events[kind]
            yield from self._exchange.answered(found.get(path) if path else found, id_field)

    def _noted(self, statements: Iterable[Statement]) -> list[Statement]:
        """Return those that are new: most events of a stream repeat the object that they are about."""
        fresh = [one for one in statements if (one.means, *one.object) not in self._said]
        self._said.update((one.means, *one.object) for one in fresh)
        return fresh
