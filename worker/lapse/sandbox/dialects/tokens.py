"""Access tokens as Entra issues them, unsigned: what the stand-in's identity endpoint hands out, with an end."""

import base64
import json
import time
from typing import Any

ISSUER = "lapse-sandbox"
TENANT = "00000000-0000-4000-8000-000000000001"
CLIENT = "00000000-0000-4000-8000-000000000002"
_SCHEME = "Bearer "


def issue(resource: str, expires_on: float) -> str:
    """Return a token for a resource that ends at a time in seconds since 1970."""
    claims = {"iss": ISSUER, "aud": resource, "tid": TENANT, "appid": CLIENT, "exp": expires_on, "iat": time.time()}
    parts = (json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def issued(authorization: str) -> bool:
    """Return True if a header carries a token of ours, whether it has ended or not."""
    return _claims(authorization).get("iss") == ISSUER


def expired(authorization: str) -> bool:
    """Return True if a header carries a token that has ended."""
    return float(_claims(authorization).get("exp", float("inf"))) <= time.time()


def _claims(authorization: str) -> dict[str, Any]:
    try:
        body = authorization.removeprefix(_SCHEME).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
