"""Which messages in the broker's queue are ours to act on: those that beat and workers send, no others. No I/O.

Whoever can write to the broker can put anything there. A message that is not exactly of the form that lapse sends is
refused before Celery looks at it: Celery would keep one with a time of its own for as long as that says, send the
messages that another asks for in our name, or end by one that is no message.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from lapse.audit import strictjson
from lapse.registry import keys

SWEEP_EXPIRED = "lapse.sweep_expired"
SWEEP_ORPHANS = "lapse.sweep_orphans"
HOUSEKEEPING = "lapse.housekeeping"
ERASE = "lapse.erase"
SWEEPS = frozenset({SWEEP_EXPIRED, SWEEP_ORPHANS})
LONGEST = 16_384  # characters of a body; ours have some hundred
LONGEST_ID = 255  # characters of a task's id, as Celery has it
LATEST = 253_402_300_799_999  # milliseconds since 1970: the end of the year 9999
_PARTS = 3  # args, kwargs and what is embedded; and also provider, kind and policy
_UNUSED = ("eta", "expires", "group", "chord", "shadow", "compression", "stamped_headers", "stamps")
"""Headers of what Celery can be asked to do with a message, and lapse never asks for."""


def refusal(message: object) -> str | None:
    """Return why a message, read as JSON, is not to be acted on; None if it is one of ours."""
    try:
        _envelope(message)
    except ValueError as error:
        return str(error)
    return None


def received(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of ours as Celery is to have it: how long a task may take is the worker's to say."""
    return {**message, "headers": {**message["headers"], "timelimit": None}}


def plain(message: Any) -> dict[str, Any]:
    """Return a message of kombu, by whatever broker it came, in the form that is read as JSON elsewhere."""
    info, body = message.delivery_info or {}, message.body
    properties = {
        "delivery_tag": str(message.delivery_tag),
        "delivery_info": {name: info.get(name) for name in ("exchange", "routing_key")},
        "priority": (message.properties or {}).get("priority"),
    }
    return {
        "headers": message.headers,
        "properties": properties,
        "content-type": message.content_type,
        "content-encoding": message.content_encoding,
        "body": body if isinstance(body, str) else bytes(body or b"").decode(errors="replace"),
    }


def named(message: object) -> dict[str, str]:
    """Return what a message says of itself, cut short, for the log: its task and its name."""
    headers = message.get("headers") if isinstance(message, Mapping) else None
    if not isinstance(headers, Mapping):
        return {}
    return {name: ascii(headers[name])[:80] for name in ("task", "id") if name in headers}


def _envelope(message: object) -> None:
    if not isinstance(message, Mapping):
        raise ValueError("it is no object")
    headers, properties = message.get("headers"), message.get("properties")
    if not isinstance(headers, Mapping) or not isinstance(properties, Mapping):
        raise ValueError("it has no headers or no properties")
    if message.get("content-type") != "application/json":
        raise ValueError(f"its content is {ascii(message.get('content-type'))[:80]}, and not JSON")
    if message.get("content-encoding") != "utf-8":
        raise ValueError("its content is no UTF-8")
    _properties(properties)
    _headers(headers)
    _body(str(headers.get("task")), _content(message.get("body"), properties.get("body_encoding")))


def _properties(properties: Mapping[str, Any]) -> None:
    tag, info = properties.get("delivery_tag"), properties.get("delivery_info")
    if not _short(tag) or not isinstance(info, Mapping):
        raise ValueError("it has no delivery tag")
    if not all(isinstance(info.get(name), str) for name in ("exchange", "routing_key")):
        raise ValueError("it has no address")
    if properties.get("priority") not in {None, 0}:
        raise ValueError("it has a priority")


def _headers(headers: Mapping[str, Any]) -> None:
    task = headers.get("task")
    if task not in {HOUSEKEEPING, ERASE, *SWEEPS}:
        raise ValueError("it names no task of lapse")
    if not _short(headers.get("id")):
        raise ValueError("it has no id")
    for name in _UNUSED:
        if headers.get(name):
            raise ValueError(f"it asks for {name}")
    if headers.get("retries") not in {None, 0} or isinstance(headers.get("retries"), bool):
        raise ValueError("it is said to have been tried before")


def _content(body: object, encoding: object) -> Any:
    if not isinstance(body, str) or len(body) > LONGEST:
        raise ValueError("it has no body, or far too long a one")
    if encoding is None:
        return strictjson.loads(body)
    if encoding != "base64":
        raise ValueError("its body is in an encoding that lapse does not use")
    try:
        return strictjson.loads(base64.b64decode(body, validate=True))
    except binascii.Error:
        raise ValueError("its body is no base64") from None


def _body(task: str, content: Any) -> None:
    if not isinstance(content, list) or len(content) != _PARTS:
        raise ValueError("its body is not what a task is called with")
    args, said, embedded = content
    if not isinstance(args, list) or not isinstance(said, dict) or not isinstance(embedded, dict):
        raise ValueError("its body is not what a task is called with")
    if any(embedded.values()):
        raise ValueError("it asks for other messages to be sent")
    if said.keys() - {"sent"}:
        raise ValueError("it has arguments that the task does not take")
    wanted = _PARTS if task in SWEEPS else 0
    if len(args) != wanted or not all(isinstance(name, str) and keys.NAME.fullmatch(name) for name in args):
        raise ValueError("it does not name a provider, a kind and a policy" if wanted else "it has arguments")
    sent = said.get("sent")
    if sent is not None and (isinstance(sent, bool) or not isinstance(sent, int) or not 0 < sent <= LATEST):
        raise ValueError("it was sent at no time")


def _short(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_ID and text.isprintable()
