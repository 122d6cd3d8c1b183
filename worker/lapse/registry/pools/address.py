"""Where a URL says that the registry is: one server, the nodes of a cluster, or what Sentinels say. No I/O."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from lapse.errors import ConfigError

CLUSTER, SENTINEL = "cluster", "sentinel"
SCHEMES = tuple(f"{scheme}+{what}" for what in (CLUSTER, SENTINEL) for scheme in ("redis", "rediss"))
"""What URLs of more than one server begin with."""
_PORTS = {CLUSTER: 6379, SENTINEL: 26379}
_OF_SENTINELS = "sentinel_"


class Node(NamedTuple):
    """One server's host and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Several:
    """A URL of more than one server.

    Attributes:
        what: ``cluster`` or ``sentinel``.
        addresses: The nodes, or Sentinels, that it names.
        service: What Sentinels call the primary; "" for a cluster.
        sentinels: User, password and other options for the Sentinels themselves: what ``?sentinel_...=`` says.

    """

    what: str
    addresses: tuple[Node, ...]
    service: str
    sentinels: dict[str, str]
    _scheme: str
    _login: str
    _database: str
    _query: str

    @property
    def tls(self) -> bool:
        """True where the servers are spoken to by TLS."""
        return self._scheme == "rediss"

    @property
    def sentinels_tls(self) -> bool:
        """True where the Sentinels are: as the servers, unless ``?sentinel_tls=`` says otherwise."""
        return self.sentinels.get("tls", str(self.tls)).lower() == "true"

    @property
    def database(self) -> int:
        """The number of the database."""
        return int(self._database or 0)

    def url(self, address: Node) -> str:
        """Return the URL of one of the servers by itself."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        query = f"?{self._query}" if self._query else ""
        return f"{self._scheme}://{self._login}{host}:{address.port}/{self._database}{query}"


def split(url: str) -> SplitResult:
    """Return the parts of a URL of one server or more, whatever its hosts are.

    From Python 3.15 on ``urlsplit`` refuses an IPv6 address behind a comma.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}://{rest[len(authority) :]}")._replace(netloc=authority)


def several(url: str) -> Several | None:
    """Return what a URL of more than one server says; None for one of a single server.

    Raises:
        ConfigError: it cannot be read; no password is repeated.

    """
    scheme, plus, what = url.partition("://")[0].partition("+")
    if not plus or what not in _PORTS:
        return None
    parts = split(url)
    login, at, hosts = parts.netloc.rpartition("@")
    addresses = tuple(_address(one, what) for one in hosts.split(","))
    service, _, database = (
        parts.path.strip("/").rpartition("/") if what == SENTINEL else ("", "", parts.path.strip("/"))
    )
    if what == SENTINEL and not service:
        service, database = database, ""
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    sentinels = {name.removeprefix(_OF_SENTINELS): value for name, value in pairs if name.startswith(_OF_SENTINELS)}
    query = urlencode([pair for pair in pairs if not pair[0].startswith(_OF_SENTINELS)])
    database = dict(pairs).get("db") or database  # as redis-py has it
    if database and not database.isdigit():
        raise ConfigError(f"the registry's URL names a database that is not a number: {database!r}")
    if what == CLUSTER and int(database or 0):
        raise ConfigError(f"the registry's URL names database {database}: a cluster has only 0")
    if what == SENTINEL and not service:
        raise ConfigError(
            f"the registry's URL names no primary: write it as {scheme}+sentinel://HOST:26379,HOST/NAME/0"
        )
    return Several(what, addresses, unquote(service), sentinels, scheme, login + at, database, query)


def _address(text: str, what: str) -> Node:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or _PORTS[what]
    except ValueError:
        host = None
    if not host:
        raise ConfigError(f"the registry's URL names no host where it should: {text!r}")
    return Node(host, port)
