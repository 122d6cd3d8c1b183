"""A cluster that is spoken to by TLS alone: a door in front of each node, whose address is the one that nodes announce.

The embedded server has no TLS of its own. Nodes speak plainly to each other, so there are no replicas.
"""

from faults.proxy import Proxy
from lapse.sandbox.redis_server import EmbeddedRedis
from support.clusters import Cluster
from support.tls import Authority


class TlsCluster(Cluster):
    """Three primaries behind TLS.

    Args:
        authority: Whose certificate they show.
        host: The name that they announce.
        preferred: Which address clients are told: ``hostname``, ``ip`` or ``unknown-endpoint``.
        more: Further options of the servers.

    """

    def __init__(self, authority: Authority, host: str, *more: str, preferred: str = "hostname") -> None:
        self._authority = authority
        self._announced = ("--cluster-announce-hostname", host, "--cluster-preferred-endpoint-type", preferred)
        self._doors: list[Proxy] = []
        self._host = host
        super().__init__(3, 0, *more)

    @property
    def url(self) -> str:
        """What a registry is made with that finds the authority's certificate in its configuration."""
        return f"rediss+cluster://{','.join(f'{self._host}:{port}' for port in self.ports)}"

    @property
    def trusting(self) -> str:
        """The same, with that certificate."""
        return f"{self.url}/?ssl_ca_certs={self._authority.ca}"

    @property
    def ports(self) -> list[int]:
        """The ports of the doors."""
        return [door.port for door in self._doors]

    def _node(self, *options: str) -> EmbeddedRedis:
        node = EmbeddedRedis(*options)
        door = self._stack.enter_context(Proxy(node.port, tls=self._authority.server))
        self._doors.append(door)
        node.options += ("--cluster-announce-port", str(door.port), *self._announced)
        return node
