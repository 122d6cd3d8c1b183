"""The answers of a provider that docs/testing.md names, as the stand-in is told to give them."""

from typing import Any

FAULTS: dict[str, dict[str, Any]] = {
    "400": {"effect": "error", "status": 400, "message": "Bad Request"},
    "401": {"effect": "error", "status": 401},
    "403": {"effect": "error", "status": 403},
    "404 page": {"effect": "error", "status": 404, "body": "html"},
    "405": {"effect": "error", "status": 405, "message": "Method Not Allowed"},
    "429 for 31 years": {"effect": "error", "status": 429, "headers": {"Retry-After": "978307200"}},
    "500": {"effect": "error", "status": 500},
    "503": {"effect": "error", "status": 503},
    "reset": {"effect": "reset"},
    "page": {"effect": "html"},
    "302": {"effect": "redirect"},
    "204": {"effect": "no_content"},
    "empty": {"effect": "empty"},
    "other id": {"effect": "other_id"},
    "deleted false": {"effect": "deleted_false"},
}
"""How the stand-in is told to answer so."""
