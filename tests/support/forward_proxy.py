"""An HTTP proxy as companies have one: CONNECT for https, whole URLs for http, a password. It remembers who asked."""

import base64
import socket
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CHUNK = 65536
OWN = {"proxy-authorization", "proxy-connection", "connection"}


class ForwardProxy:
    """A proxy on a free loopback port. A context manager.

    Args:
        user: ``NAME:PASSWORD`` that everybody has to say; empty: nobody has to.

    Attributes:
        asked: Method, target and headers (names in lower case) of what it was asked.
        answer: A status that it answers everything with, in place of passing it on.
        mute: Whether it takes what it is asked and says nothing.

    """

    def __init__(self, user: str = "") -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answer: int | None = None
        self.mute = threading.Event()
        self._wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else None
        self._over = threading.Event()
        self._ends: list[socket.socket] = []
        self._silent: list[threading.Thread] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_CONNECT(self) -> None:
                if proxy._let_in(self):
                    host, _, port = self.path.rpartition(":")
                    proxy._tunnel(self, host.strip("[]"), int(port))
                self.close_connection = True

            def do_GET(self) -> None:
                if proxy._let_in(self):
                    proxy._forward(self)

            do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's own names

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{f'{user}@' if user else ''}{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def targets(self) -> list[str]:
        """Method and target of everything it was asked."""
        return [f"{method} {target}" for method, target, _ in self.asked]

    def cut(self) -> None:
        """End every tunnel of now, as a proxy does that is restarted."""
        for end in self._ends:
            end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for one in self._silent:
            one.join(5)
        self._server.shutdown()
        self._server.server_close()

    def _let_in(self, request: BaseHTTPRequestHandler) -> bool:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.command, request.path, headers))
        if self.mute.is_set():
            self._silent.append(threading.current_thread())
            self._over.wait()
            return False
        refused = 407 if self._wanted and headers.get("proxy-authorization") != self._wanted else self.answer
        if refused:
            request.send_response(refused)
            request.send_header("Content-Length", "0")
            request.end_headers()
        return not refused

    def _tunnel(self, request: BaseHTTPRequestHandler, host: str, port: int) -> None:
        with socket.create_connection((host, port)) as server:
            request.send_response(200)
            request.end_headers()
            self._ends += (server, request.connection)
            back = threading.Thread(target=_pump, args=(server, request.connection), daemon=True)
            back.start()
            _pump(request.connection, server)
            back.join()

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OWN}
        connection = HTTPConnection(parts.netloc, timeout=10)
        connection.request(request.command, parts._replace(scheme="", netloc="").geturl(), body, headers)
        given = connection.getresponse()
        data = given.read()
        connection.close()
        request.send_response(given.status)
        request.send_header("Content-Type", given.headers.get("content-type", "application/json"))
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
