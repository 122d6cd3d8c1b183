"""A stand-in for Azure: an App Service's managed identity endpoint, and a Redis that takes its tokens as they last."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.rotating import token

USER = "principal"
HEADER = "what the endpoint wants to hear"


class Azure:
    """Tokens for user ``principal`` of a server: each is good for so many seconds, and what it opened ends with it.

    Attributes:
        issued: The tokens.
        resources: What they were asked for.
        closed: How many connections were closed that were in use: open for longer than a token lasts, and not idle.

    """

    def __init__(self, admin: Any, seconds: float) -> None:
        self.issued: list[str] = []
        self.resources: set[str] = set()
        self.closed = 0
        self._admin = admin
        self._seconds = seconds
        self._ends: dict[str, float] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"azure": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._threads = [threading.Thread(target=self._server.serve_forever), threading.Thread(target=self._close)]
        admin.execute_command("ACL", "SETUSER", USER, "on", "~*", "&*", "+@all")

    @property
    def environ(self) -> dict[str, str]:
        """What a program in an App Service finds in its environment."""
        where = f"http://127.0.0.1:{self._server.server_port}/identity"
        return {
            "IDENTITY_ENDPOINT": where,
            "IDENTITY_HEADER": HEADER,
            "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        }

    def issue(self, resource: str) -> dict[str, Any]:
        """Return the endpoint's answer."""
        with self._lock:
            made = token(self._seconds, oid=USER, serial=len(self.issued))
            self._admin.execute_command("ACL", "SETUSER", USER, f">{made}")
            self.issued.append(made)
            self.resources.add(resource)
            self._ends[made] = time.monotonic() + self._seconds
        ends = str(int(time.time() + self._seconds))
        return {"access_token": made, "expires_on": ends, "resource": resource, "token_type": "Bearer"}

    def _close(self) -> None:
        while not self._ended.wait(0.1):
            with self._lock:
                over = [one for one, ends in self._ends.items() if ends < time.monotonic()]
                for one in over:
                    del self._ends[one]
                    self._admin.execute_command("ACL", "SETUSER", USER, f"<{one}")
            for one in self._admin.client_list():
                if one["user"] == USER and int(one["age"]) > self._seconds:
                    self.closed += int(one["idle"]) <= 1
                    self._admin.client_kill_filter(_id=one["id"])

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    azure: Azure

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        right = self.headers.get("X-IDENTITY-HEADER") == HEADER
        body = json.dumps(self.azure.issue(asked["resource"][0]) if right else {}).encode()
        self.send_response(200 if right else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
