"""Which account of a provider a request belongs to: one HTTP client may serve several. No I/O."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SALT = os.urandom(16)
_MATTER = {
    name.encode(): name
    for name in (
        "authorization",
        "api-key",
        "x-api-key",
        "openai-organization",
        "openai-project",
        "content-type",
        "content-encoding",
    )
}
_KEYS = ("authorization", "api-key", "x-api-key")
_DEPLOYMENTS = "/deployments/"
_OWNERS = ("openai-organization", "openai-project")


def fingerprint(key: str) -> int:
    """Return what tells one key from another in this process, and from which no key can be found."""
    return hash((_SALT, key.removeprefix("Bearer ")))


@dataclass(frozen=True, slots=True)
class TrackedAccount:
    """An account of a provider, as requests name it.

    Attributes:
        origin: Scheme, host and port, as they are sent; the port is None where the address says none.
        path: What the paths of its addresses begin with, without a slash at the end.
        owners: Organisation and project; "" where requests say none.
        key: The fingerprint of its key, or None for one that changes: a token is no name.

    """

    origin: tuple[bytes, bytes, int | None]
    path: str
    owners: tuple[str, ...] = ("", "")
    key: int | None = None

    def below(self, target: str) -> str | None:
        """Return what follows the base URL in a request's target, without its query; None if it does not begin so."""
        if not target.startswith(self.path):
            return None
        rest = target[len(self.path) :].partition("?")[0]
        if rest.startswith(_DEPLOYMENTS):  # Azure's own place for what a model answers
            rest = "/" + rest.removeprefix(_DEPLOYMENTS).partition("/")[2]
        return rest if rest.startswith("/") else None

    def owns(self, request: Any) -> bool:
        """Return True if a request of this path is this account's."""
        url = request.url
        if (url.raw_scheme, url.raw_host, url.port) != self.origin:
            return False
        headers = lowered(request.headers)
        if tuple(headers.get(name, "") for name in _OWNERS) != self.owners:
            return False
        return self.key is None or fingerprint(key_in(headers)) == self.key


def lowered(headers: Any) -> Mapping[str, str]:
    """Return those headers that matter here, by names in lower case: httpx takes 5 us for each look at one."""
    raw = getattr(headers, "raw", None)
    if raw is None:
        return {name.lower(): value for name, value in headers.items()}
    return {_MATTER[low]: value.decode("latin-1") for name, value in raw if (low := name.lower()) in _MATTER}


def key_in(headers: Mapping[str, str]) -> str:
    """Return the key that headers carry; "" for none."""
    return next((headers[name] for name in _KEYS if name in headers), "")
