"""How an account is reached: straight, or through an HTTP proxy. No I/O.

The environment is asked only where the policy file says ``proxy = "env"``, and as curl asks it: ``https_proxy`` or
``http_proxy`` by the scheme of ``base_url``, else ``all_proxy``, small letters before capitals; ``no_proxy`` excepts
hosts.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from lapse.errors import ConfigError
from lapse.providers.account import Account

ENVIRONMENT = "env"
"""The value of ``proxy`` that leaves the choice to the environment."""
_EXAMPLE = "http://HOST:3128"
_WITH_PORT = re.compile(r"(?P<host>\[[^]]+]|[^:]+):(?P<port>[0-9]+)")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: Where it is, without credentials.
        host: The same, the name alone.
        authorization: What a Proxy-Authorization says; empty: none is sent.
        secrets: What of it must not be shown.

    """

    url: str
    host: str
    authorization: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Route:
    """How one account is reached.

    Attributes:
        account: Which.
        told: The same in words, without credentials.
        proxy: What it goes through; None: nothing.
        ca_file: The certificate authorities that are believed; None: the system's.

    """

    account: str
    told: str = "directly"
    proxy: Proxy | None = None
    ca_file: str | None = None


def parse(text: str) -> Proxy:
    """Return the proxy that a URL names.

    Raises:
        ValueError: it is none; the text does not repeat it.

    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if re.search(r"[\s\\\x00-\x1f\x7f]", text) or parts.scheme != "http" or not parts.hostname or not port:
        raise ValueError(f"is not an HTTP proxy: write it as {_EXAMPLE}, special characters as %XX")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError(f"has more than a host and a port: write it as {_EXAMPLE}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    url = f"http://{host}:{port}"
    if not parts.username and not parts.password:
        return Proxy(url, parts.hostname)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    # A user without a password is a token.
    return Proxy(url, parts.hostname, f"Basic {encoded}", (password or user, encoded))


def route_to(account: Account, environ: Mapping[str, str]) -> Route:
    """Return how an account is reached.

    Raises:
        ConfigError: the environment names a proxy that lapse cannot use, or the proxy would see the key.

    """
    proxy, told = _chosen(account, environ)
    if proxy and exposes(account.base_url, proxy) and not account.allow_plaintext:
        raise ConfigError(f"[providers.{account.name}] proxy: {EXPOSED}")
    if account.ca_file:
        told = f"{told}, trusting {account.ca_file} alone"
    return Route(account.name, told, proxy, account.ca_file)


EXPOSED = (
    "would send the key readable over the network, as base_url is http://: use https, or state allow_plaintext = true"
)


def exposes(base_url: str, proxy: Proxy) -> bool:
    """Return True if requests leave this machine readable on their way to a proxy."""
    return urlsplit(base_url).scheme == "http" and not is_loopback(proxy.host)


def is_loopback(host: str) -> bool:
    """Return True if a URL's host is this machine without asking anyone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _chosen(account: Account, environ: Mapping[str, str]) -> tuple[Proxy | None, str]:
    scheme = urlsplit(account.base_url).scheme
    variable = _variable(environ, f"{scheme}_proxy", "all_proxy")
    if account.proxy is None:
        ignored = f" ({variable} is set, and not followed: proxy is off)" if variable else ""
        return None, f"directly{ignored}"
    if account.proxy != ENVIRONMENT:
        proxy = parse(account.proxy)
        return proxy, f"through {proxy.url}"
    if variable is None:
        return None, f"directly ({scheme.upper()}_PROXY is not set)"
    if excepting := _excepted(account.base_url, environ):
        return None, f"directly ({excepting} excepts it from {variable})"
    said = environ[variable].strip()
    try:
        proxy = parse(said if "://" in said else f"http://{said}")
    except ValueError as error:
        raise ConfigError(f'[providers.{account.name}] proxy = "env": {variable} {error}') from None
    return proxy, f"through {proxy.url} ({variable})"


def _variable(environ: Mapping[str, str], *names: str) -> str | None:
    """Return the first variable that says something."""
    spelt = (form for name in names for form in (name, name.upper()))
    return next((form for form in spelt if environ.get(form, "").strip()), None)


def _excepted(base_url: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable by which a URL's host goes without a proxy: by name, domain, address or network, or ``*``."""
    variable = _variable(environ, "no_proxy")
    parts = urlsplit(base_url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS[parts.scheme]
    for entry in re.split(r"[\s,]+", environ[variable].lower().strip()) if variable else ():
        found = _WITH_PORT.fullmatch(entry)
        named, at = (found["host"], int(found["port"])) if found else (entry, port)
        if at == port and _covers(named.strip("[]"), host):
            return variable
    return None


def _covers(named: str, host: str) -> bool:
    if named == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(named, strict=False)
    except ValueError:
        domain = named.lstrip("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
