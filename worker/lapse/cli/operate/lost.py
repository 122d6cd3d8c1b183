"""Lines that say what to register: of a file of registrations, or of an application's log, by lapse's own logger.

Whoever can have a log tell a message can have it tell anything. So a line of a log counts only if it is wholly of the
form in which that logger's warnings are written, with its name where no message can stand. Either JSON: one object, in
one reading, whose ``logger`` or ``name`` is ``lapse`` and whose ``event`` or ``message`` is the warning. Or text: a
time, a level and the logger's name in front, as in ``WARNING:lapse:lapse call failed: {...}``, and nothing behind.
"""

import re
from collections.abc import Mapping
from typing import Any

from lapse.audit import strictjson

LOST = "lapse call failed: "
LOGGER = "lapse"
NAMES = frozenset({"kind", "id", "policy"})

_LOGGERS = ("logger", "name", "logger_name", "loggerName", "log.logger")
_MESSAGES = ("event", "message", "msg")
_TIME = r"[0-9TZ:.,/+\-\[\]()| \t]{0,100}"
_TEXT = re.compile(
    rf"{_TIME}(?:(?:WARNING|WARN|warning|warn)[\]:,|/ \t\-]{{1,9}})?{_TIME}(?<![A-Za-z])"
    rf"lapse[\]:,|) \t\-]{{1,9}}{LOST}(\{{.*\}})"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ADVICE = (
    "let the log's format begin with time, level and logger (%(name)s), or register its JSON from a file of its own"
)


class NotSaid(Exception):
    """A line says something like a registration, and not in a form that counts; the text says why."""


def read(line: bytes) -> str:
    """Return a line as text, without its end.

    Raises:
        NotSaid: it is no UTF-8, or holds control characters.

    """
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise NotSaid("it is no UTF-8") from None
    if _CONTROL.search(text.replace("\t", " ")):
        raise NotSaid("it holds control characters")
    return text


def registration(text: str) -> dict[str, Any] | None:
    """Return the registration that a line of a file of registrations is, or None if it looks like no such line.

    Raises:
        NotSaid: it can be read in two ways.

    """
    if LOST in text or not text.lstrip().startswith("{"):
        return None
    try:
        value = strictjson.loads(text)
    except ValueError as error:
        raise NotSaid(str(error)) from None
    return value if isinstance(value, dict) and len(NAMES & value.keys()) > 1 else None


def warning(text: str) -> dict[str, Any] | None:
    """Return what a line of a log says that was lost, or None if it is another line.

    Raises:
        NotSaid: it says so, and somebody else than lapse's logger can have written it.

    """
    if LOST.strip() not in text:
        if _bare(text):
            raise NotSaid(f"lapse's logger did not write it: {_ADVICE}")
        return None
    try:
        if text.lstrip().startswith("{"):
            said = _of_json(strictjson.loads(text))
        else:
            found = _TEXT.fullmatch(text)
            said = found[1] if found else None
        lost = strictjson.loads(said) if said else None
    except ValueError as error:
        raise NotSaid(str(error)) from None
    if said is None:
        raise NotSaid(f"no line of lapse's logger is so: {_ADVICE}")
    if not isinstance(lost, dict):
        raise NotSaid("it says nothing that was lost")
    return lost


def _of_json(line: object) -> str | None:
    """Return what the warning of a JSON line says; None if it is none of lapse's logger."""
    if not isinstance(line, Mapping):
        return None
    inner = line.get("log")
    loggers = [line[name] for name in _LOGGERS if name in line]
    loggers += [inner["logger"]] if isinstance(inner, Mapping) and "logger" in inner else []
    told = [line[name] for name in _MESSAGES if isinstance(line.get(name), str) and LOST in line[name]]
    if not loggers or any(logger != LOGGER for logger in loggers) or len(told) != 1 or not told[0].startswith(LOST):
        return None
    return str(told[0].removeprefix(LOST))


def _bare(text: str) -> bool:
    try:
        return registration(text) is not None
    except NotSaid:
        return False
