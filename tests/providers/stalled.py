"""A peer that takes no more bytes for a while, in a thread of its own: its window is as small as a kernel makes one."""

import socket
import ssl
import threading
from types import TracebackType
from typing import Self

SMALLEST = 1
"""Of a receive buffer: the kernel makes it 2 KB or so, half of which is for its own use."""


class StalledPeer:
    """Accepts one connection, shakes hands if it speaks TLS, and reads nothing before ``go_on``.

    ``told`` is all that it was sent then, as plain text; ``how`` is how the connection ended.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, stall_handshake: bool = False) -> None:
        self.told = b""
        self.how = ""
        self.accepted = threading.Event()
        self._tls = tls
        self._stall_handshake = stall_handshake
        self._reading = threading.Event()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(8)
        self._thread = threading.Thread(target=self._serve, name="stalled peer", daemon=True)

    @property
    def url(self) -> str:
        """The base URL to configure."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def go_on(self) -> None:
        """Read all there is, to the connection's end."""
        self._reading.set()
        self._thread.join(timeout=20)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.set()
        self._listening.close()
        self._thread.join(timeout=20)

    def _serve(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        self.accepted.set()
        connection.settimeout(10)
        if self._stall_handshake:
            self._reading.wait()
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
            self._reading.wait()
            self._read(connection)
        except OSError as error:
            self.how = type(error).__name__
        finally:
            connection.close()

    def _read(self, connection: socket.socket) -> None:
        while piece := connection.recv(65536):
            self.told += piece
        self.how = "closed"
