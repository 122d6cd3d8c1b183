"""The ``lapse`` script. What a supervisor asks of one process it answers itself; all else is ``lapse.cli``.

What systemd is told without asking is here too, as worker, beat and exporter tell it in the same words.

It lies beside the package, and says what a heartbeat file looks like, because a probe that runs every ten seconds must
not load the package, which brings the Redis client, nor click: it costs what starting Python costs. Times in the file
are seconds of CLOCK_MONOTONIC, the same in every process of a machine, so that setting its clock neither hides a
standstill nor makes one up.
"""

import os
import sys
import time

TYPE_CHECKING = False  # typing's own takes as long to load as all else here
if TYPE_CHECKING:
    from collections.abc import Mapping

WORKER, BEAT = "worker", "beat"
ROLES = {"--worker": WORKER, "--beat": BEAT}
LIVE = "--live"
OK, SILENT = 0, 4
"""Exit codes, as ``lapse.cli.exit_codes`` has them."""


def main() -> int:
    """Run the command that the arguments name and return its exit code."""
    given = sys.argv[1:]
    asked = {*given[1:]}
    if given[:1] == ["health"] and asked and asked <= {LIVE, *ROLES} and len(asked - {LIVE}) <= 1:
        role = ROLES[(asked - {LIVE}).pop()] if asked - {LIVE} else WORKER
        passed, detail = read(role, os.environ, live=LIVE in asked)
        sys.stdout.write(f"{'ok  ' if passed else 'FAIL'} {role}: {detail}\n")
        return OK if passed else SILENT
    from lapse.cli import main as commands

    return commands()


def folder(environ: "Mapping[str, str]") -> str:
    """Return the directory of heartbeat files.

    ``LAPSE_RUNTIME_DIR``, else what systemd gives a unit (``RUNTIME_DIRECTORY``), else ``lapse`` below
    ``XDG_RUNTIME_DIR``, else a directory of this user's below the one for temporary files.

    Raises:
        FileNotFoundError: there is none of these; the text says what to set.

    """
    if given := environ.get("LAPSE_RUNTIME_DIR") or environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return given
    if session := environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(session, "lapse")
    return os.path.join(environ.get("TMPDIR") or _temporary(), f"lapse-{os.getuid()}")


def written(at: float, stale: float, *, connected: bool) -> str:
    """Return what a heartbeat file holds: one JSON object, whose numbers :func:`read` finds without a JSON parser."""
    known = "true" if connected else "false"
    return f'{{"at": {at!r}, "stale_after": {stale!r}, "pid": {os.getpid()}, "connected": {known}}}'


def read(role: str, environ: "Mapping[str, str]", *, live: bool = False) -> tuple[bool, str]:
    """Return whether a process of this machine is well by what it last showed, and in words.

    It is if its loop turns and has a connection to the broker; ``live`` asks for the first alone.
    """
    try:
        path = os.path.join(folder(environ), f"{role}.json")
    except FileNotFoundError as error:
        return False, str(error.strerror)
    try:
        with open(path, encoding="utf-8") as file:
            said = dict(part.split(": ") for part in file.read().strip("{}\n ").split(", "))
        age, stale = time.monotonic() - float(said['"at"']), float(said['"stale_after"'])
    except FileNotFoundError:
        return False, f"there is no {path}: no {role} runs here, or it has not begun"
    except (OSError, ValueError, KeyError) as error:
        return False, f"{path} cannot be read: {error!r}"
    if age < 0:
        return False, f"{path} is from before this machine was started"
    detail = f"its loop turned {age:.0f} s ago"
    if said.get('"connected"') == "false":
        return live and age <= stale, f"{detail}, without a connection to the broker"
    return age <= stale, detail


def notify(environ: "Mapping[str, str]", status: str) -> None:
    """Tell systemd that this process is up and its loop turns, if its unit has ``Type=notify``; never raises.

    With ``WatchdogSec`` a loop that says nothing for so long is started again. Protocol: ``man 3 sd_notify``.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in {"/", "@"}:
        return
    import socket

    address = f"\0{path[1:]}" if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.settimeout(0)
            made.sendto(f"READY=1\nWATCHDOG=1\nSTATUS={status}".encode(), address)
    except OSError:
        pass  # a supervisor that cannot be told restarts this process, and its log says so


def _temporary() -> str:
    import tempfile

    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise FileNotFoundError(
            2, "there is no directory that temporary files can be written to: set LAPSE_RUNTIME_DIR"
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())
