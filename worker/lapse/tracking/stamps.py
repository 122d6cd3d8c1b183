"""A stamp in the metadata of what is about to be created: whoever lists it later sees whose it is. No I/O."""

import json
from collections.abc import Mapping

PAIRS = 16
"""How many pairs a provider's metadata may have."""


def stamped(body: bytes, stamp: Mapping[str, str]) -> bytes | None:
    """Return a request's JSON body with a stamp in its metadata; None where there is no place for one.

    The application's own pairs stay, and one called ``lapse`` is its own.

    Args:
        body: What is about to be sent.
        stamp: ``Registry.stamp``.

    """
    try:
        said = json.loads(body) if body else {}
    except ValueError:
        return None
    metadata = said.get("metadata") or {} if isinstance(said, dict) else None
    if not isinstance(metadata, dict) or len(metadata) >= PAIRS or stamp.keys() & metadata.keys():
        return None
    if metadata or "metadata" in said:
        return json.dumps(
            {**said, "metadata": {**metadata, **stamp}}, ensure_ascii=False, separators=(",", ":")
        ).encode()
    # All else stays as it was written.
    rest = body.lstrip().removeprefix(b"{").lstrip() or b"}"
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"metadata":' + json.dumps(dict(stamp), separators=(",", ":")).encode() + comma + rest
