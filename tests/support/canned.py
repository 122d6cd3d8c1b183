"""A provider of fixed answers on a real socket: the same requests in the same order get the same bytes, every time."""

import gzip
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import brotli  # type: ignore[import-untyped]

OBJECTS = {
    "threads": ("thread", "thread"),
    "assistants": ("asst", "assistant"),
    "conversations": ("conv", "conversation"),
    "files": ("file", "file"),
    "vector_stores": ("vs", "vector_store"),
    "containers": ("cntr", "container"),
    "responses": ("resp", "response"),
    "completions": ("chatcmpl", "chat.completion"),
    "messages": ("msg", "thread.message"),
    "items": ("item", "conversation.item"),
    "runs": ("run", "thread.run"),
    "batches": ("batch", "batch"),
    "uploads": ("upload", "upload"),
    "file_batches": ("vsfb", "vector_store.file_batch"),
}
"""Last word of a path -> prefix of its ids, and ``object``."""

DELETED = {"file": "file", "response": "response", "conversation.item": "conversation"}


class Canned:
    """A server of canned answers. A context manager.

    A request with the header ``x-answer`` gets what that says: a status, ``gzip``, ``cut``, ``slow``, ``text`` or
    ``reset``. Ids are numbered from ``reset`` on.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self._numbers = 0
        self._failed: set[str] = set()
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("transfer-encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                canned.requests.append((self.command, self.path, body))
                canned.answer(self, self.path.partition("?")[0], body)

            do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815 - http.server's own

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reset(self) -> None:
        """Begin anew: the next request gets what the first one got."""
        self._numbers = 0
        self._failed.clear()
        self.requests.clear()

    def answer(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        """Send the answer to one request."""
        asked = handler.headers.get("x-answer", "")
        if asked.isdigit():
            self._send(handler, int(asked), {"error": {"message": "as asked", "type": "test", "code": None}})
        elif asked == "retry" and path not in self._failed:
            self._failed.add(path)
            self._send(handler, 500, {"error": {"message": "once", "type": "test", "code": None}})
        elif asked == "reset":
            handler.close_connection = True
            handler.connection.close()
        elif asked == "text":
            self._bytes(handler, 200, "text/plain", b"no JSON at all")
        elif handler.command == "POST" and b'"stream":true' in body.replace(b" ", b""):
            self._stream(handler, path, cut=asked == "cut")
        else:
            self._send(handler, 200, self._object(handler.command, path), asked)

    def _object(self, method: str, path: str) -> dict[str, Any]:
        parts = path.removeprefix("/v1/").split("/")
        word = next((part for part in reversed(parts) if part in OBJECTS), parts[-1])
        prefix, name = OBJECTS.get(word, ("x", word))
        if method == "DELETE":
            return {"id": parts[-1], "object": DELETED.get(name, f"{name}.deleted"), "deleted": True}
        if parts[-1] == "complete":
            return {"id": parts[1], "object": "upload", "file": {"id": self._id("file"), "object": "file"}}
        if method == "GET" and parts[-1] == word:
            return {
                "object": "list",
                "data": [{"id": f"{prefix}_{n}", "object": name} for n in "ab"],
                "has_more": False,
            }
        id_ = self._id(prefix) if method == "POST" and parts[-1] == word else parts[-1]
        more: Mapping[str, Any] = {}
        if name == "thread.run":
            more = {"thread_id": parts[1] if parts[1] != "runs" else self._id("thread"), "assistant_id": "asst_1"}
        if name == "batch":
            more = {"output_file_id": "file_out", "error_file_id": None}
        if name == "response":
            more = {"output": [{"type": "code_interpreter_call", "container_id": "cntr_auto"}]}
        return {"id": id_, "object": name, "created_at": 1_760_000_000, "metadata": {"ä": "ö"}, **more}

    def _id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}_{self._numbers:04}"

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: Mapping[str, Any], how: str = "") -> None:
        data = json.dumps(body, indent=1).encode()
        self._bytes(handler, status, "application/json", data, how)

    def _bytes(self, handler: BaseHTTPRequestHandler, status: int, kind: str, data: bytes, how: str = "") -> None:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("x-request-id", f"req_{len(self.requests)}")
        if how == "gzip":
            data = gzip.compress(data, mtime=0)
            handler.send_header("content-encoding", "gzip")
        if how == "br":
            data = brotli.compress(data)
            handler.send_header("content-encoding", "br")
        if how == "chunked":
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            for start in range(0, len(data), 7):
                _chunk(handler, data[start : start + 7])
            handler.wfile.write(b"0\r\n\r\n")
            return
        handler.send_header("content-length", str(len(data) + (5 if how == "cut" else 0)))
        handler.end_headers()
        handler.wfile.write(data)
        if how == "cut":
            handler.close_connection = True
            handler.connection.close()

    def _stream(self, handler: BaseHTTPRequestHandler, path: str, *, cut: bool) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream; charset=utf-8")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        found = self._object("POST", path)
        for event in _events(path, found):
            _chunk(handler, event[:11])  # never where a line ends
            _chunk(handler, event[11:])
            if cut:
                handler.close_connection = True
                handler.connection.close()
                return
        handler.wfile.write(b"0\r\n\r\n")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _chunk(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    if data:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()


def _events(path: str, found: Mapping[str, Any]) -> list[bytes]:
    if re.search(r"/completions$", path):
        chunks = [
            {**found, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": c}}]}
            for c in "abc"
        ]
        return [f"data: {json.dumps(one)}\n\n".encode() for one in chunks] + [b"data: [DONE]\n\n"]
    if "/threads" in path:
        named = [("thread.run.created", found), ("thread.run.completed", found)]
        if path.endswith("/threads/runs"):
            named.insert(0, ("thread.created", {"id": found["thread_id"], "object": "thread"}))
        return [f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in named] + [
            b"event: done\ndata: [DONE]\n\n"
        ]
    begun = {**found, "output": []}
    named = [
        ("response.created", {"type": "response.created", "sequence_number": 0, "response": begun}),
        ("response.in_progress", {"type": "response.in_progress", "sequence_number": 1, "response": begun}),
        ("response.completed", {"type": "response.completed", "sequence_number": 2, "response": found}),
    ]
    return [f"event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n".encode() for name, data in named]
