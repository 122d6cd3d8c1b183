"""No key and no password anywhere: as it is, as a URL quotes it, or as basic authentication encodes it."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

from oracle.history import History, Violation


def judge(history: History) -> Iterator[Violation]:
    """Yield every text that holds a secret; the secret itself is not repeated."""
    texts = dict(history.texts)
    texts["/metrics"] = history.metrics or ""
    texts["audit"] = json.dumps([dict(record) for record in history.audit])
    for number, secret in enumerate(history.secrets):
        for where, text in texts.items():
            if any(spelling in text for spelling in _spellings(secret)):
                yield Violation("secret", where, f"holds secret number {number}, of {len(secret)} characters")


def _spellings(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), encoded}
