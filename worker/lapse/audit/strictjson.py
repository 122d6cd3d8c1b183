"""JSON that every reader reads the same way: one value, no name twice in an object, no number that JSON has not."""

import json
from typing import Any, NoReturn

DIGITS = 1000
"""Of a number, at most; Python itself would refuse 4,300, in other words."""


def loads(text: str | bytes) -> Any:
    """Return the one value that a text holds.

    Raises:
        ValueError: it is no JSON, or JSON that two readers may take for two things: a name that an object has twice,
            NaN or Infinity, a number beyond a double's range, more than one value, half of a character, or values too
            deep in one another.

    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = (_SHORT if len(text) <= DIGITS else _LONG).decode(text)
        # Bytes that are UTF-8 hold no half: only an escape says one.
        half = ("\\u" in text or not text.isascii()) and _half(value)
    except RecursionError:
        raise ValueError("it holds values too deep in one another") from None
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not one JSON value ({error.msg}, character {error.pos})") from None
    if half:
        raise ValueError("it holds half of a character")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"it has {twice[:40]!a} twice")
    return made


def _half(value: Any) -> bool:
    """Return True if a text in it, or a name, has half of a character: no bytes say that."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(map(_half, value)) or any(map(_half, value.values()))
    return isinstance(value, list) and any(map(_half, value))


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"{text[:40]} is beyond every number that readers agree on")
    return value


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text):,} digits is beyond every number that readers agree on")
    return int(text)


# Made once: json.loads() with hooks makes a new one each time, which takes longer than to read a line. In a short text
# no number is too long, and Python need not be asked about each.
_SHORT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_LONG = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int)
