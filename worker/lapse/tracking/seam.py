"""Where a client keeps its HTTP client, and which account it talks to: all of an SDK that this rests on."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lapse.errors import ConfigError
from lapse.tracking.account import TrackedAccount, fingerprint, key_in
from lapse.tracking.apis.endpoints import Endpoints
from lapse.tracking.apis.langgraph import LANGGRAPH_ENDPOINTS
from lapse.tracking.apis.openai import OPENAI_ENDPOINTS

WORKS = {
    "openai": "openai 3.57 with httpx2 2.16 or httpx 0.28",
    "langgraph_sdk": "langgraph_sdk 0.4.14 with httpx 0.28",
    "httpx": "httpx 0.28 and httpx2 2.16",
}
"""Package -> what this was tested with."""

APIS: Mapping[str, Endpoints] = {"openai": OPENAI_ENDPOINTS, "langgraph": LANGGRAPH_ENDPOINTS}


@dataclass(frozen=True, slots=True)
class Seam:
    """Where to look at what a client does.

    Attributes:
        http: Its HTTP client, of httpx or httpx2.
        account: Whose requests count.
        endpoints: The rows of its API.
        asynchronous: True if it awaits.
        stream: The class that a response's stream has to be of.
        body: The class of a request's stream that is bytes.

    """

    http: Any
    account: TrackedAccount
    endpoints: Endpoints
    asynchronous: bool
    stream: type
    body: type


def of(client: Any) -> Seam:
    """Return where to look at what an SDK's client does.

    Raises:
        ConfigError: no client of an SDK that this knows, or of a version whose insides moved.

    """
    packages = {cls.__module__.partition(".")[0] for cls in type(client).__mro__}
    if "openai" in packages and hasattr(client, "with_options"):
        return _openai(client)
    if "langgraph_sdk" in packages:
        http: Any = getattr(getattr(client, "http", None), "client", None)
        module = _module_of(http, "langgraph_sdk")
        return _seam(http, module, _account(http.base_url, key_in(http.headers)), LANGGRAPH_ENDPOINTS)
    raise ConfigError(
        f"lapse.track takes OpenAI's clients, sync and async, Azure's too, and langgraph_sdk's: "
        f"{type(client).__module__}.{type(client).__qualname__} is none of them; track_http takes an httpx client"
    )


def of_http(http: Any, base_url: str | None, api: str, *, every_key: bool) -> Seam:
    """Return where to look at what an HTTP client of httpx or httpx2 does below a base URL.

    Raises:
        ConfigError: no such client, no base URL, or an API that has no rows.

    """
    if api not in APIS:
        raise ConfigError(f"api={api!r}: use {' or '.join(map(repr, APIS))}")
    module = _module_of(http, "httpx")
    url = module.URL(base_url) if base_url else http.base_url
    if not url.host:
        raise ConfigError("which addresses? Give base_url= to track_http, or to the HTTP client")
    return _seam(http, module, _account(url, "" if every_key else key_in(http.headers)), APIS[api])


def _openai(client: Any) -> Seam:
    try:
        http, base, key = client._client, client.base_url, client.api_key  # noqa: SLF001 - it has no public name
        owners = (client.organization or "", client.project or "")
    except AttributeError as error:
        raise _moved("openai", str(error)) from None
    # A function that returns a key, as a token's provider does, makes another one now and then.
    changing = ("_api_key_provider", "_azure_ad_token_provider", "_azure_ad_token")
    static = isinstance(key, str) and not any(getattr(client, name, None) for name in changing)
    module = _module_of(http, "openai")
    return _seam(http, module, _account(base, key if static else "", owners), OPENAI_ENDPOINTS)


def _account(url: Any, key: str, owners: tuple[str, str] = ("", "")) -> TrackedAccount:
    path = url.raw_path.decode("ascii").partition("/deployments/")[0].rstrip("/")
    origin = (url.raw_scheme, url.raw_host, url.port)
    return TrackedAccount(origin, path, owners, fingerprint(key) if key else None)


def _seam(http: Any, module: ModuleType, account: TrackedAccount, endpoints: Endpoints) -> Seam:
    asynchronous = isinstance(http, module.AsyncClient)
    stream = module.AsyncByteStream if asynchronous else module.SyncByteStream
    return Seam(http, account, endpoints, asynchronous, stream, module.ByteStream)


def _module_of(http: Any, package: str) -> ModuleType:
    """Return the module of an HTTP client that has what hooks need, among those that are loaded already."""
    for name in ("httpx2", "httpx"):
        module = sys.modules.get(name)
        if module is not None and isinstance(http, (module.Client, module.AsyncClient)):
            hooks = getattr(http, "event_hooks", None)
            if isinstance(hooks, dict) and {"request", "response"} <= hooks.keys():
                return module
            raise _moved(package, "its HTTP client has no event_hooks")
    raise _moved(package, "it has no HTTP client of httpx or httpx2 where this looks for one")


def _moved(package: str, what: str) -> ConfigError:
    return ConfigError(f"lapse.track does not know this {package}: {what}; it was tested with {WORKS[package]}")
