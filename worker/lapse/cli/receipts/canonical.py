"""The one form that a receipt has: JSON as RFC 8785 writes it, of values that every reader takes alike. No I/O.

With ASCII names and whole numbers below 2^53, Python's own encoder writes that form: names sorted by UTF-16 units are
sorted by characters then, and no number has two spellings.
"""

import json
from typing import Any

from lapse.audit import strictjson

LARGEST = 2**53 - 1
"""What a double tells from its neighbours (RFC 8785, 3.2.2.3, by way of RFC 7493)."""


def dumps(value: Any) -> bytes:
    """Return the bytes of a value.

    Raises:
        ValueError: it holds something that has no such form.

    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def loads(content: bytes) -> dict[str, Any]:
    """Return the object that these bytes are the form of.

    Raises:
        ValueError: they are another's, or no JSON object.

    """
    value = strictjson.loads(content)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if dumps(value) != content:
        raise ValueError("it is not written as receipts are: a space, an order or an escape is another")
    return value


def _check(value: Any) -> None:
    match value:
        case str() | bool() | None:
            pass
        case int() if -LARGEST <= value <= LARGEST:
            pass
        case list():
            for one in value:
                _check(one)
        case dict():
            for name, one in value.items():
                if not (isinstance(name, str) and name.isascii()):
                    raise ValueError(f"the name {name!a} is not ASCII")
                _check(one)
        case _:
            raise ValueError(
                f"{ascii(value)[:40]} is no text, whole number below 2^53, list, object, true, false or null"
            )
