"""What tracking says in the log and counts: each cause once in a process, however many requests have it."""

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from threading import Lock

log = logging.getLogger("lapse")

_LIBRARIES = (
    "lapse",
    "openai",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "langgraph_sdk",
    "azure",
    "anyio",
    "asyncio",
)
_said: set[tuple[str, str]] = set()
_counts: Counter[str] = Counter()
_lock = Lock()


def counted(what: str) -> None:
    """Count something that happened."""
    with _lock:
        _counts[what] += 1


def counts() -> Mapping[str, int]:
    """Return what happened in this process since it began, by name; see ``lapse.tracked_counts``."""
    with _lock:
        return dict(_counts)


def once(what: str, about: str, text: str) -> None:
    """Count what happened, and say it the first time that it happens about the same."""
    with _lock:
        _counts[what] += 1
        if (what, about) in _said:
            return
        _said.add((what, about))
    log.warning("lapse tracking: %s", text)


def unanswered(about: str, why: str) -> None:
    """Say and count a create whose answer never came: whatever it made, nobody knows the id."""
    counted("unanswered")
    log.warning("lapse tracking: %s: %s; what it made, if anything, is not registered", about, why)


def call_site() -> str:
    """Return the application's own line that led here: "file:line", or "" where no frame is the application's."""
    frame = sys._getframe(1).f_back  # noqa: SLF001 - the documented way to a caller's line
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).split(".")[0] not in _LIBRARIES:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
