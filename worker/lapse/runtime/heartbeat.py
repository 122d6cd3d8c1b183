"""How a worker or beat shows that its loop turns, and whether it has a connection to the broker: a file, and systemd.

What it looks like, and how a supervisor reads it, is in ``lapse_health``, which loads nothing of lapse.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import lapse_health
from lapse_health import BEAT, WORKER

__all__ = ["BEAT", "STALE", "TURN", "WORKER", "Heartbeat", "Pulse", "folder", "read"]

TURN = 5.0
"""Seconds between two writes of a loop that turns."""

STALE = 120.0
"""Seconds without one after which it does not turn any more: well over what one attempt to connect takes."""


READABLE = 0o644


class Pulse(NamedTuple):
    """What a heartbeat file says: whether all is well, and in words."""

    ok: bool
    detail: str


def folder(environ: Mapping[str, str]) -> Path:
    """Return the directory of heartbeat files, by the rules of ``lapse_health.folder``.

    Raises:
        FileNotFoundError: there is none; the text says what to set.

    """
    return Path(lapse_health.folder(environ))


class Heartbeat:
    """What one process shows; showing it never raises. Whoever may enter the file's folder may read the file."""

    def __init__(self, role: str, environ: Mapping[str, str], *, stale: float = STALE) -> None:
        self.path = folder(environ) / f"{role}.json"
        self._environ = environ
        self.error: str | None = None
        """Why the file cannot be written; None while it can."""
        self._stale = stale
        self._written = 0.0
        self._connected = False

    def turned(self, *, connected: bool = True) -> bool:
        """Show that the loop turned; False if it cannot be shown, and ``error`` says why.

        The file is written at most once a second, and at once where a connection was made or lost.
        """
        now = time.monotonic()
        if now - self._written < 1 and connected == self._connected:
            return True
        self._written, self._connected = now, connected
        lapse_health.notify(self._environ, "connected" if connected else "waits for the broker")
        text = lapse_health.written(now, self._stale, connected=connected)
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            self._own_folder()
            fresh.write_text(text)
            fresh.chmod(READABLE)
            fresh.replace(self.path)
        except OSError as error:
            self.error = f"{self.path} cannot be written ({error.strerror}): set LAPSE_RUNTIME_DIR"
            return False
        self.error = None
        return True

    def ended(self) -> None:
        """Take the file away: this process ends."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _own_folder(self) -> None:
        """Make the directory; refuse one below /tmp that another user has put there first."""
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid not in {os.getuid(), 0}:
            raise PermissionError(1, "it belongs to somebody else", str(folder))


def read(role: str, environ: Mapping[str, str], *, live: bool = False) -> Pulse:
    """Return what a process of this machine last showed; ``live`` asks for no connection."""
    return Pulse(*lapse_health.read(role, environ, live=live))
