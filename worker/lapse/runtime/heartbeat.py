"""The file in which a worker or beat shows that its loop turns, and what a supervisor reads in it.

Reading it asks nobody and loads nothing of lapse: a probe costs a small file. Times are seconds of CLOCK_MONOTONIC,
the same in every process of a machine, so that setting its clock neither hides a standstill nor makes one up.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

WORKER, BEAT = "worker", "beat"
TURN = 5.0
"""Seconds between two writes of a loop that turns."""

STALE = 120.0
"""Seconds without one after which it does not turn any more: well over the time that a lost broker costs."""


class Pulse(NamedTuple):
    """What a heartbeat file says: whether the loop turns, and in words."""

    ok: bool
    detail: str


def folder(environ: Mapping[str, str]) -> Path:
    """Return the directory of heartbeat files.

    ``LAPSE_RUNTIME_DIR``, else what systemd gives a unit (``RUNTIME_DIRECTORY``), else ``lapse`` below
    ``XDG_RUNTIME_DIR``, else a directory of this user's below the one for temporary files.

    Raises:
        FileNotFoundError: there is none of these; the text says what to set.

    """
    if given := environ.get("LAPSE_RUNTIME_DIR") or environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "lapse"
    try:
        temporary = environ.get("TMPDIR") or tempfile.gettempdir()
    except FileNotFoundError:
        raise FileNotFoundError(
            2, "there is no directory that temporary files can be written to: set LAPSE_RUNTIME_DIR"
        ) from None
    return Path(temporary) / f"lapse-{os.getuid()}"


class Heartbeat:
    """One process' file; writing it never raises."""

    def __init__(self, role: str, environ: Mapping[str, str], *, stale: float = STALE) -> None:
        self.path = folder(environ) / f"{role}.json"
        self.error: str | None = None
        """Why the file cannot be written; None while it can."""
        self._stale = stale
        self._written = 0.0

    def turned(self) -> bool:
        """Show that the loop turned, at most once a second; False if it cannot be shown, and ``error`` says why."""
        now = time.monotonic()
        if now - self._written < 1:
            return True
        self._written = now
        text = json.dumps({"at": now, "stale_after": self._stale, "pid": os.getpid()})
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            self._own_folder()
            fresh.write_text(text)
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


def read(role: str, environ: Mapping[str, str]) -> Pulse:
    """Return what a process of this machine last showed."""
    try:
        path = folder(environ) / f"{role}.json"
    except FileNotFoundError as error:
        return Pulse(ok=False, detail=str(error.strerror))
    try:
        seen = json.loads(path.read_text())
        age, stale = time.monotonic() - seen["at"], float(seen["stale_after"])
    except FileNotFoundError:
        return Pulse(ok=False, detail=f"there is no {path}: no {role} runs here, or it has not begun")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Pulse(ok=False, detail=f"{path} cannot be read: {error!r}")
    if age < 0:
        return Pulse(ok=False, detail=f"{path} is from before this machine was started")
    return Pulse(ok=age <= stale, detail=f"its loop turned {age:.0f} s ago")
