"""How a subject is told outside of the registry: as a keyed hash of its name, in clear, or not at all. No I/O."""

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NAMING = frozenset({"subject", "was"})
"""Fields of an audit record that name subjects: whose data an id is, and whose it was."""

HASHED, PLAIN, NONE = "hmac", "plain", "none"


@dataclass(frozen=True, slots=True)
class SubjectsShown:
    """What ``[audit] subjects`` says.

    Attributes:
        how: ``hmac``, ``plain`` or ``none``.
        salt: The namespace's; ``b""`` where it has none yet, and nothing is told.

    """

    how: str = HASHED
    salt: bytes = b""

    def told(self, subjects: Sequence[str]) -> list[str]:
        """Return subjects as they may be told: HMAC-SHA-256 with the salt as the key (RFC 2104), in hexadecimal.

        It is a pseudonym: who can read the registry has the salt and can test guesses.
        """
        if self.how == PLAIN:
            return list(subjects)
        if self.how == NONE or not self.salt:
            return []
        return [f"hmac:{hmac.new(self.salt, name.encode(), hashlib.sha256).hexdigest()}" for name in subjects]

    def record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return an audit record with its subjects as they may be told."""
        others = {name: value for name, value in record.items() if name not in NAMING}
        for name in NAMING & record.keys():
            said = record[name]
            told = self.told([str(one) for one in said] if isinstance(said, list) else [str(said)])
            if told:
                others[name] = told[0] if len(told) == 1 else told
        return others

    def line(self, line: bytes, record: dict[str, Any]) -> bytes:
        """Return the line of a record likewise."""
        return json.dumps(self.record(record), separators=(",", ":")).encode() if NAMING & record.keys() else line
