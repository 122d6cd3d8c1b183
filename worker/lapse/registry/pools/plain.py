"""redis-py's own clients, for what reads the registry as it is stored: the command line, the exporter and beat."""

from functools import partial
from typing import Any, cast

import redis
from redis.cluster import ClusterNode, RedisCluster

from lapse.errors import RegistryUnavailable
from lapse.registry.connection import CONNECT_TIMEOUT, ended
from lapse.registry.pools import sentinel
from lapse.registry.pools.address import CLUSTER, SENTINEL
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, endpoint_of
from lapse.registry.pools.credentials.renewing import proving


def client_of(url: str | RedisEndpoint, **options: Any) -> redis.Redis:
    """Return a client of what a registry's URL names; ``options`` are redis-py's own.

    Raises:
        ConfigError: the URL cannot be read.
        RegistryUnavailable: no node of a cluster answers.

    """
    endpoint = endpoint_of(url)
    target, provider = endpoint.several, endpoint.credentials
    if target and target.what == SENTINEL:
        made, given = sentinel.connections(
            redis.connection, target, options.get("socket_timeout") or CONNECT_TIMEOUT, endpoint.sentinels
        )
    else:
        given = dict(redis.connection.parse_url(endpoint.at(target.addresses[0]).url if target else endpoint.url))
        made = given.pop("connection_class", redis.Connection)
    made, given = proving(made, given, provider)
    if target and target.what == CLUSTER:
        return _cluster(endpoint, made, options | given)
    return redis.Redis.from_pool(redis.ConnectionPool(made, **options | given))


def reader_of(url: str | RedisEndpoint, timeout: float, **options: Any) -> redis.Redis:
    """Return a client for reading, to which no stored text is one that it cannot read; see ``client_of``."""
    usual = {"decode_responses": True, "encoding_errors": "backslashreplace"}
    return client_of(url, **{**usual, "socket_timeout": timeout, "socket_connect_timeout": timeout, **options})


def _cluster(endpoint: RedisEndpoint, made: type[Any], options: dict[str, Any]) -> redis.Redis:
    del options["host"], options["port"]
    options.pop("db", None)  # a URL may say 0, which is all that a cluster has
    nodes = [ClusterNode(node.host, node.port) for node in endpoint.addresses]
    one = f"redis://{nodes[0].host}:{nodes[0].port}"  # told a URL, it makes connections of the class that it is told
    try:
        cluster = RedisCluster(
            startup_nodes=nodes, url=one, connection_class=made, address_remap=partial(_told, nodes[0].host), **options
        )
    except redis.exceptions.RedisClusterException as error:
        said = ended(redis.ConnectionError(str(error)), made)
        raise RegistryUnavailable(f"no node of the registry's cluster answers: {said}") from None
    finally:
        for node in nodes:  # it asked them on connections that it does not close
            if node.redis_connection:
                node.redis_connection.close()
    return cast(
        "redis.Redis", cluster
    )  # its commands are those of one server, as far as they name keys of one hash slot


def _told(asked: str, address: tuple[str | None, int]) -> tuple[str, int]:
    """Return where a node is: one that announces none is where it was asked; redis-py knows that of "" alone."""
    return address[0] or asked, address[1]
